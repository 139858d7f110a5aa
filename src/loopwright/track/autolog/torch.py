"""torch without a framework above it: what optimizers were set to, and what a program writes for TensorBoard.

A plain loop keeps its loss in a local variable, which nothing can see; but it steps an optimizer, and it often writes
to a SummaryWriter. Both are followed while a run is active; a loop begins and ends nowhere, so no run is started.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from loopwright.track.autolog.calls import Training
from loopwright.track.autolog.contract import AUTOLOG, Patches
from loopwright.track.autolog.guarding import quietly
from loopwright.track.autolog.logs import as_key, numbers_of, short

if TYPE_CHECKING:
    from loopwright.track.recorder import Recorder

_WRITERS = ("torch.utils.tensorboard.writer", "tensorboardX.writer")


class Torch:
    """Optimizers by torch's own hook after each step, and SummaryWriters by their methods."""

    modules = ("torch", *_WRITERS)

    def patch(self, module: ModuleType, patches: Patches) -> None:
        """See Integration."""
        if module.__name__ in _WRITERS:
            for name in ("add_scalar", "add_scalars", "add_hparams"):
                patches.wrap([(module.SummaryWriter, name)], _WRITTEN[name])
            return
        from torch.optim.optimizer import register_optimizer_step_post_hook

        patches.on_undo(register_optimizer_step_post_hook(_Steps(patches)).remove)


AUTOLOG.register("torch")(Torch())


class _Steps:
    """Called after each step of each optimizer; nearly always it finds nothing new."""

    def __init__(self, patches: Patches) -> None:
        self._patches = patches
        self._seen: WeakKeyDictionary[Any, _Seen] = WeakKeyDictionary()

    def __call__(self, optimizer: Any, _args: Any, _kwargs: Any) -> None:
        with quietly("the steps of an optimizer"):
            run = self._patches.active()
            if run is None:
                return
            seen = self._seen.get(optimizer)
            if seen is None or seen.run != run.id:
                number = 1 + sum(other.run == run.id for other in list(self._seen.values()))
                seen = self._seen[optimizer] = _Seen(run.id, "" if number == 1 else f"_{number}")
                run.log_params(optimizer_params(optimizer, f"optimizer{seen.suffix}"))
            seen.step(run, optimizer)


class _Seen:
    """What was recorded of an optimizer."""

    __slots__ = ("rates", "run", "steps", "suffix")

    def __init__(self, run: str, suffix: str) -> None:
        self.run, self.suffix, self.steps = run, suffix, 0
        self.rates: list[Any] = []

    def step(self, run: Recorder, optimizer: Any) -> None:
        """Record the learning rates, if they have changed. One that is a tensor stays unread: that could wait for the
        device."""
        rates = [group.get("lr") for group in optimizer.param_groups]
        if rates != self.rates and all(isinstance(rate, float | int) for rate in rates):
            self.rates = rates
            names = [f"lr{self.suffix}", *(f"lr{self.suffix}/group_{at}" for at in range(1, len(rates)))]
            run.log_metrics(dict(zip(names, rates, strict=True)), self.steps)
        self.steps += 1


def optimizer_params(optimizer: Any, name: str) -> dict[str, str]:
    """The class and the settings of an optimizer, by `name` and `name.setting`."""
    settings = {key: value for key, value in optimizer.param_groups[0].items() if key != "params" and value is not None}
    found = {f"{name}.{as_key(key)}": short(value) for key, value in settings.items()}
    return {name: type(optimizer).__name__, **found}


def _scalar(training: Training) -> Iterator[None]:
    _write(training, {training.argument("tag"): training.argument("scalar_value")})
    yield


def _scalars(training: Training) -> Iterator[None]:
    values: Mapping[str, Any] = training.argument("tag_scalar_dict")
    _write(training, {f"{training.argument('main_tag')}/{key}": value for key, value in values.items()})
    yield


def _hparams(training: Training) -> Iterator[None]:
    run = training.active()
    if run is not None:
        run.log_params({as_key(key): short(value) for key, value in training.argument("hparam_dict").items()})
        _write(training, training.argument("metric_dict"))
    yield


def _write(training: Training, values: Mapping[str, Any]) -> None:
    run, step = training.active(), training.argument("global_step")
    if run is None or (step is not None and int(step) % training.options.log_every_n_steps):
        return
    run.log_metrics({as_key(key): number for key, number in numbers_of(values).items()}, step)


_WRITTEN = {"add_scalar": _scalar, "add_scalars": _scalars, "add_hparams": _hparams}
