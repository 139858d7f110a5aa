"""PyTorch Lightning: fits of its Trainer, in either of its packages."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

from loopwright.track.autolog.calls import Training
from loopwright.track.autolog.contract import AUTOLOG, Patches
from loopwright.track.autolog.guarding import quietly
from loopwright.track.autolog.logs import TrainingLog, numbers_of
from loopwright.track.autolog.torch import optimizer_params

MODEL_FILE = "model/weights.safetensors"
_MAX_MODEL_BYTES = 512 << 20
_TRAINER = ("max_epochs", "max_steps", "accumulate_grad_batches", "gradient_clip_val", "precision", "world_size")
_CALLBACKS = {
    "EarlyStopping": (("monitor", "mode", "patience", "min_delta"), ("stopped_epoch", "best_score")),
    "ModelCheckpoint": (("monitor", "mode", "save_top_k"), ("best_model_score",)),
}


class Lightning:
    """`Trainer.fit` of `lightning.pytorch` and of `pytorch_lightning`. Of several processes the first records."""

    modules = ("lightning.pytorch", "pytorch_lightning")

    def patch(self, module: ModuleType, patches: Patches) -> None:
        """See Integration."""
        patches.wrap([(module.Trainer, "fit")], _fit)


AUTOLOG.register("lightning")(Lightning())


def _fit(training: Training) -> Iterator[None]:
    trainer, model = training.args[0], training.argument("model")
    if trainer.global_rank != 0:
        return
    log = training.begin(type(model).__name__)
    if log is None:
        return
    with quietly("params"):
        log.params(_params(trainer, model))
    with quietly("the summary of the model"):
        log.text(_summary(trainer, model), "model_summary.txt")
    callback = _callback(trainer, log)
    trainer.callbacks = [*trainer.callbacks, callback]
    try:
        yield
    finally:
        trainer.callbacks = [other for other in trainer.callbacks if other is not callback]
    with quietly("the last metrics"):
        log.metrics(numbers_of(trainer.callback_metrics), trainer.current_epoch)
        _log_callbacks(log, trainer)
    if log.options.log_models:
        with quietly("the model"):
            _keep(log, model)


def _params(trainer: Any, model: Any) -> dict[str, Any]:
    """The model's own hyperparameters, and how the trainer is set."""
    found = {key: getattr(trainer, key, None) for key in _TRAINER}
    found["accelerator"] = type(trainer.accelerator).__name__
    found["strategy"] = type(trainer.strategy).__name__
    sizes = [(item.numel(), item.requires_grad) for item in model.parameters() if hasattr(item, "numel")]
    found["parameters"] = sum(size for size, _ in sizes)
    found["trainable_parameters"] = sum(size for size, trained in sizes if trained)
    own: Mapping[str, Any] = getattr(model, "hparams", None) or {}
    return {**{key: value for key, value in found.items() if value is not None}, **own}


def _summary(trainer: Any, model: Any) -> str:
    module = sys.modules[f"{_package(trainer)}.utilities.model_summary"]
    return str(module.ModelSummary(model))


def _package(trainer: Any) -> str:
    """`lightning.pytorch` or `pytorch_lightning`: whose Trainer this is, or is derived from."""
    for kind in type(trainer).__mro__:
        for name in Lightning.modules:
            if kind.__module__.startswith(f"{name}."):
                return name
    return Lightning.modules[0]


def _callback(trainer: Any, log: TrainingLog) -> Any:
    """A callback that follows the trainer. A copy in another process finds no log there, and does nothing."""
    logs = {os.getpid(): log}

    class Recording(sys.modules[_package(trainer)].Callback):  # type: ignore[misc]  # known when it runs
        """Follows metrics by step and by epoch."""

        def __reduce__(self) -> tuple[Any, ...]:
            return sys.modules[_package(trainer)].Callback, ()

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            """The optimizers are there now."""
            del pl_module
            with quietly("the optimizers"):
                _log_optimizers(logs[os.getpid()], trainer)

        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            """Take what was logged by step, as often as the trainer itself does: reading waits for the device."""
            with quietly("the metrics of a step"):
                step = trainer.global_step
                every = max(int(trainer.log_every_n_steps or 0), log.options.log_every_n_steps)
                if step % every == 0 and os.getpid() in logs:
                    log.metrics(_by_step(trainer.logged_metrics), step)

        def on_train_epoch_end(self, trainer: Any, *_: Any) -> None:
            """Take what was logged by epoch."""
            self._epoch(trainer)

        def on_validation_epoch_end(self, trainer: Any, *_: Any) -> None:
            """Take it after a validation, too, but not of the trial run before training."""
            if not trainer.sanity_checking:
                self._epoch(trainer)

        def _epoch(self, trainer: Any) -> None:
            with quietly("the metrics of an epoch"):
                if os.getpid() in logs:
                    log.metrics(numbers_of(trainer.callback_metrics), trainer.current_epoch)

    return Recording()


def _log_optimizers(log: TrainingLog, trainer: Any) -> None:
    for number, optimizer in enumerate(trainer.optimizers, 1):
        log.params(optimizer_params(optimizer, "optimizer" if number == 1 else f"optimizer_{number}"))


def _log_callbacks(log: TrainingLog, trainer: Any) -> None:
    """What callbacks of Lightning that watch a metric were set to, and what they saw."""
    for callback in trainer.callbacks:
        kind = type(callback).__name__
        settings, results = _CALLBACKS.get(kind, ((), ()))
        prefix = {"EarlyStopping": "early_stopping", "ModelCheckpoint": "checkpoint"}.get(kind, "")
        if settings and getattr(callback, "monitor", None):
            log.params({f"{prefix}.{key}": getattr(callback, key, None) for key in settings})
            log.metrics({f"{prefix}.{key}": getattr(callback, key, None) for key in results})


def _by_step(metrics: Mapping[str, Any]) -> dict[str, float]:
    """What Lightning calls `<name>_step`, where it keeps both, under that name."""
    return {key: value for key, value in numbers_of(metrics).items() if key != "epoch"}


def _keep(log: TrainingLog, model: Any) -> None:
    """Keep the weights as safetensors: a checkpoint of Lightning is a pickle."""
    size = sum(item.numel() * item.element_size() for item in model.state_dict().values() if hasattr(item, "numel"))
    if size > _MAX_MODEL_BYTES:
        log.model_kept("", f"its weights are {size:,} bytes; use log_artifact")
        return
    try:
        from safetensors.torch import save_model
    except ImportError:
        log.model_kept("", "weights are kept as safetensors: pip install safetensors")
        return
    with TemporaryDirectory(prefix="loopwright-autolog-") as folder:
        path = Path(folder) / "weights.safetensors"
        save_model(model, str(path))
        log.file(path, MODEL_FILE)
        log.model_kept(MODEL_FILE)
