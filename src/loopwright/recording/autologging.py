"""`lw.autolog()`: the trainings of the common libraries record themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.core import Invalid, new_id
from loopwright.recording.fluent import active_run, begin_here
from loopwright.recording.spooling import spool_for
from loopwright.track import AutologOptions, Recorder, autolog_off, autolog_on, begin_run

if TYPE_CHECKING:
    import polars as pl


def autolog(
    frameworks: Iterable[str] | str | None = None,
    *,
    log_models: bool = True,
    log_every_n_steps: int = 1,
    exclusive: bool = False,
    experiment: str = "default",
    disable: bool = False,
) -> None:
    """Record what scikit-learn, LightGBM, XGBoost, PyTorch Lightning, torch and Keras train from now on.

    A training is recorded in the active run, or else in a run of its own that ends with it. Only the outermost
    training counts: a search over a pipeline is one. No library is imported: one that is imported later is watched
    then. Nothing that goes wrong here reaches the training; it is told once in the log `loopwright.autolog`.

    Args:
        frameworks: which libraries; by default all.
        log_models: keep models, too: as a bundle, where there is a safe form.
        log_every_n_steps: of curves by iterations or steps, keep each n-th point and the last.
        exclusive: leave runs alone that the program started itself.
        experiment: where runs of their own belong.
        disable: put the libraries' own functions back.

    Raises:
        Invalid: no framework of that name is known, or `log_every_n_steps` is below 1.
    """
    if disable:
        autolog_off(frameworks)
        return
    if log_every_n_steps < 1:
        raise Invalid(f"log_every_n_steps is {log_every_n_steps}", next_step="give 1 or more")
    autolog_on(frameworks, AutologOptions(log_models, log_every_n_steps, exclusive, experiment), _Front())


class _Front:
    """What the room of runs needs from above, where bundles and the active run are known."""

    def active(self) -> Recorder | None:
        """The run that is being recorded."""
        return active_run()

    def start(
        self, experiment: str, name: str, *, tags: Mapping[str, str], parent: str = "", kind: str = "run"
    ) -> Recorder:
        """A run of this thread alone, or a part of another run that is active nowhere."""
        if not parent:
            return begin_here(experiment, name, tags)
        spool, _ = spool_for()
        return Recorder(spool, begin_run(new_id(), experiment, name, {}, tags, parent=parent, kind=kind))

    def bundle(self, model: Any, sample: pl.DataFrame, folder: Path) -> None:
        """Write a bundle, proved on the sample."""
        from loopwright.models import build_bundle

        build_bundle(model, sample, folder=folder)
