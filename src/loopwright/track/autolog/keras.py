"""Keras 3, on any of its backends, and as TensorFlow's: fits of its models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

from loopwright.track.autolog.calls import Training
from loopwright.track.autolog.contract import AUTOLOG, Patches
from loopwright.track.autolog.guarding import quietly
from loopwright.track.autolog.logs import TrainingLog, short
from loopwright.track.autolog.rows import shape_of

MODEL_FILE = "model/model.weights.h5"
SHAPE_FILE = "model/config.json"
_MAX_PARAMETERS = 128 << 20
_ARGUMENTS = ("epochs", "batch_size", "steps_per_epoch", "validation_split", "initial_epoch")


class Keras:
    """`Model.fit`, where the backend's trainer defines it."""

    modules = ("keras",)

    def patch(self, module: ModuleType, patches: Patches) -> None:
        """See Integration."""
        owner = next(kind for kind in module.Model.__mro__ if "fit" in vars(kind))
        patches.wrap([(owner, "fit")], _fit)


AUTOLOG.register("keras")(Keras())


def _fit(training: Training) -> Iterator[None]:
    model = training.args[0]
    log = training.begin(model.name or type(model).__name__)
    if log is None:
        return
    with quietly("params"):
        log.params(_params(training, model))
    given = training.argument("callbacks")
    recording = _callback(log, float(training.argument("epochs", 1)))
    owned = getattr(given, "callbacks", None)
    if isinstance(owned, list):  # a CallbackList, which belongs to the program: ours is taken out again below
        owned.append(recording)
    else:
        some = [] if given is None else list(given) if isinstance(given, list | tuple) else [given]
        training.give("callbacks", [*some, recording])
    try:
        yield
    finally:
        if isinstance(owned, list) and recording in owned:
            owned.remove(recording)
    with quietly("the summary of the model"):
        lines: list[str] = []
        model.summary(print_fn=lambda line, *_, **__: lines.append(line), line_length=100)
        log.params({"parameters": model.count_params()})
        log.text("\n".join(lines), "model_summary.txt")
    if log.options.log_models:
        with quietly("the model"):
            _keep(log, model)


def _params(training: Training, model: Any) -> dict[str, Any]:
    """What `fit` was called with, and how the model was compiled."""
    found = {name: training.argument(name) for name in _ARGUMENTS}
    rows = shape_of(training.argument("x"))
    found |= {"training_rows": rows[0] if rows else None, "loss": getattr(model, "loss", None)}
    settings: Mapping[str, Any] = model.optimizer.get_config() if getattr(model, "optimizer", None) else {}
    found |= {f"optimizer.{key}": value for key, value in settings.items() if key != "name"}
    if settings:
        found["optimizer"] = type(model.optimizer).__name__
    return {key: short(value) for key, value in found.items() if value is not None}


def _callback(log: TrainingLog, epochs: float) -> Any:
    """A callback that follows epochs. It has no hook for batches, which would make each of them wait for the device."""
    from keras.callbacks import Callback

    every = log.options.log_every_n_steps

    class Recording(Callback):  # type: ignore[misc]  # Keras is not there when types are checked
        """Follows metrics by epoch."""

        def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
            """Take the metrics of training and validation."""
            if epoch % every == 0 or epoch + 1 >= epochs:
                log.metrics(dict(logs or {}), epoch)

    return Recording()


def _keep(log: TrainingLog, model: Any) -> None:
    """Keep the weights, and what the model is made of; not as Keras's archive, which may hold code."""
    if model.count_params() > _MAX_PARAMETERS:
        log.model_kept("", f"it has {model.count_params():,} parameters; use log_artifact")
        return
    with TemporaryDirectory(prefix="loopwright-autolog-") as folder:
        path = Path(folder) / "model.weights.h5"
        model.save_weights(str(path))
        log.file(path, MODEL_FILE)
    log.model_kept(MODEL_FILE)
    with quietly("what the model is made of"):
        if not any(type(layer).__name__ == "Lambda" for layer in model._flatten_layers()):  # whose config holds code
            log.text(model.to_json(), SHAPE_FILE)
