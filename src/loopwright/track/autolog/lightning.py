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
    follower = _Follower(log)
    callback = _callback(trainer, follower, log.options.log_every_n_steps)
    trainer.callbacks = [*trainer.callbacks, callback]
    try:
        yield
    finally:
        trainer.callbacks = [other for other in trainer.callbacks if other is not callback]
    with quietly("the last metrics"):
        follower.take(trainer.callback_metrics, trainer.global_step, leave_out="_step")
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


class _Follower:
    """Takes what Lightning's `callback_metrics` have to tell that is new; all on the axis of the trainer's steps.

    Those are kept for ever, so a value is new where it is another object. Of a metric that is logged by step and by
    epoch there are three: `loss_step`, `loss_epoch`, and `loss`, which is one of them and left out.
    """

    def __init__(self, log: TrainingLog) -> None:
        self._log, self._pid = log, os.getpid()
        self._seen: dict[str, Any] = {}
        self._points: dict[str, tuple[int, float]] = {}

    def take(self, metrics: Mapping[str, Any], step: int, *, leave_out: str, repeats: bool = True) -> None:
        """Take what is new.

        Args:
            metrics: Lightning's.
            step: the trainer's step.
            leave_out: `_step` or `_epoch`: what is not the matter now.
            repeats: whether an equal number can be a new one; inside of an epoch it may be that of the epoch before.
        """
        if os.getpid() != self._pid:
            return
        halves = {key.removesuffix(end) for key in metrics for end in ("_step", "_epoch") if key.endswith(end)}
        names = [key for key in metrics if not key.endswith(leave_out) and key not in halves]
        numbers = numbers_of({key: metrics[key] for key in names if self._seen.get(key) is not metrics[key]})
        new = {key: number for key, number in numbers.items() if self._is_new(key, step, number, repeats)}
        self._seen.update({key: metrics[key] for key in (numbers if repeats else new)})
        self._points.update({key: (step, number) for key, number in new.items()})
        if new:
            self._log.metrics(new, step)

    def _is_new(self, key: str, step: int, number: float, repeats: bool) -> bool:
        before = self._points.get(key)
        return before is None or (before != (step, number) and (repeats or before[1] != number))

    def optimizers(self, trainer: Any) -> None:
        """Log how the optimizers are set."""
        if os.getpid() == self._pid:
            for number, optimizer in enumerate(trainer.optimizers, 1):
                name = "optimizer" if number == 1 else f"optimizer_{number}"
                self._log.params(optimizer_params(optimizer, name))


def _callback(trainer: Any, follower: _Follower, at_least: int) -> Any:
    """A callback that follows the trainer. A copy in another process does nothing."""
    base = sys.modules[_package(trainer)].Callback

    class Recording(base):  # type: ignore[misc, valid-type]  # known when it runs
        """Follows metrics by step and by epoch."""

        def __reduce__(self) -> tuple[Any, ...]:
            return base, ()

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            """The optimizers are there now."""
            del pl_module
            with quietly("the optimizers"):
                follower.optimizers(trainer)

        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            """Take what was logged by step, as often as the trainer itself does: reading waits for the device."""
            with quietly("the metrics of a step"):
                step = trainer.global_step
                if step % max(int(trainer.log_every_n_steps or 0), at_least) == 0:
                    follower.take(trainer.callback_metrics, step, leave_out="_epoch")

        def on_train_epoch_end(self, trainer: Any, *_: Any) -> None:
            """Take what was logged by epoch."""
            with quietly("the metrics of an epoch"):
                follower.take(trainer.callback_metrics, trainer.global_step, leave_out="_step")

        def on_validation_epoch_end(self, trainer: Any, *_: Any) -> None:
            """Take it after a validation, too, but not of the trial before training."""
            if not trainer.sanity_checking:
                with quietly("the metrics of a validation"):
                    follower.take(trainer.callback_metrics, trainer.global_step, leave_out="_step", repeats=False)

    return Recording()


def _log_callbacks(log: TrainingLog, trainer: Any) -> None:
    """What callbacks of Lightning that watch a metric were set to, and what they saw."""
    for callback in trainer.callbacks:
        kind = type(callback).__name__
        settings, results = _CALLBACKS.get(kind, ((), ()))
        prefix = {"EarlyStopping": "early_stopping", "ModelCheckpoint": "checkpoint"}.get(kind, "")
        if settings and getattr(callback, "monitor", None):
            log.params({f"{prefix}.{key}": getattr(callback, key, None) for key in settings})
            log.metrics({f"{prefix}.{key}": getattr(callback, key, None) for key in results})


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
