"""What an integration of a training library is, and what it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from loopwright.core import Registry

if TYPE_CHECKING:
    import polars as pl

    from loopwright.track.autolog.calls import Training
    from loopwright.track.recorder import Recorder


@dataclass(frozen=True)
class AutologOptions:
    """How trainings are recorded.

    Attributes:
        log_models: keep models: as a bundle where there is a safe form, else in the library's own format without code.
        log_every_n_steps: of a curve by iterations or steps, keep each n-th point and the last.
        exclusive: leave runs alone that the program started itself, and record only into runs of our own.
        experiment: where runs of our own belong.
        score_rows: how many training rows are scored after a fit, at most.
        child_runs: how many of the best candidates of a search become runs of their own.
    """

    log_models: bool = True
    log_every_n_steps: int = 1
    exclusive: bool = False
    experiment: str = "default"
    score_rows: int = 10_000
    child_runs: int = 5


Hook = Callable[["Training"], Iterator[None]]
"""What is done around a call: a generator that yields once, at the place where the library trains.

One that returns without having yielded records nothing. What it raises is reported and ends it, never the training.
"""


class Front(Protocol):
    """What recording needs from above. Thread-safe."""

    def active(self) -> Recorder | None:
        """The run that is being recorded, if there is one."""
        ...

    def start(
        self, experiment: str, name: str, *, tags: Mapping[str, str], parent: str = "", kind: str = "run"
    ) -> Recorder:
        """Start a run that is active in this thread alone, or, with a parent, in no thread."""
        ...

    def bundle(self, model: Any, sample: pl.DataFrame, folder: Path) -> None:
        """Write the model as a bundle into a new folder.

        Raises:
            Invalid: it has no safe form, or that form answers otherwise.
        """
        ...


class Patches(Protocol):
    """Replaces functions of libraries, so that they can be put back."""

    def wrap(self, places: Sequence[tuple[Any, str]], hook: Hook, *, joins: bool = False) -> None:
        """Put one hook around one function, which is found at each of these places: an owner and the attribute's name.

        Args:
            places: where the function is; places that hold something else than the first one does are left alone.
            hook: what is done around each outermost call.
            joins: run the hook inside a training of the same integration, too; the log is then the outer one's.
        """
        ...

    def silence(self, places: Sequence[tuple[Any, str]]) -> None:
        """Let nothing be recorded of trainings inside of this function."""
        ...

    def put(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute until the integration is switched off."""
        ...

    def active(self) -> Recorder | None:
        """The run in which something outside of any training may be recorded; None where there is none."""
        ...

    def on_undo(self, undo: Callable[[], None]) -> None:
        """Call this when the integration is switched off."""
        ...


class Integration(Protocol):
    """Knows one library. It imports that library only inside of `patch` and of hooks."""

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules that are patched, as soon as one is imported."""
        ...

    def patch(self, module: ModuleType, patches: Patches) -> None:
        """Put hooks into a module of `modules`, which has just been imported or was so before."""
        ...


AUTOLOG: Registry[Integration] = Registry("autolog", "autolog integration")
