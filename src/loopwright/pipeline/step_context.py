"""`context()`: what a step can ask of, and tell to, the run that it is in."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from loopwright.core import Invalid, Scope, check_path
from loopwright.pipeline.messages import Advice, HandedOut, Kept, Metrics, Note, Report, Tags
from loopwright.store import ObjectStore


class Link(Protocol):
    """The way to the run's process. Thread-safe; notes arrive in order, and before the step's end is recorded."""

    def tell(self, note: Note) -> None:
        """Send a note."""
        ...

    def ask(self, report: Report) -> Advice:
        """Send a report and wait for the answer."""
        ...


class TrialPruned(BaseException):
    """A search has seen enough of this trial: the step ends here, and the trial counts as pruned.

    It is no Exception, so that a broad `except` in the user's code does not swallow it.
    """

    def __init__(self, step: int) -> None:
        super().__init__(f"pruned at step {step}")
        self.step = step


class StepContext:
    """One step of one run, from the inside. Thread-safe."""

    def __init__(
        self,
        *,
        run_id: str,
        step: str,
        seed: int,
        folder: Path,
        scope: Scope,
        root: str,
        open_workspace: str,
        objects: ObjectStore,
        link: Link,
    ) -> None:
        self.run_id, self.step, self.seed, self.folder, self.scope = run_id, step, seed, folder, scope
        self._root, self._open_workspace, self._objects, self._link = root, open_workspace, objects, link

    @cached_property
    def ws(self) -> Any:
        """The workspace, opened at its first use; what is done through it names the run as its cause."""
        key = (self._open_workspace, self._root, self.scope)
        if key not in _workspaces:
            module, _, name = self._open_workspace.partition(":")
            opener: Callable[[str, Scope], Any] = getattr(import_module(module), name)
            _workspaces[key] = opener(self._root, self.scope)
        opened = _workspaces[key]
        scoped = getattr(opened, "scoped", None)
        return scoped(self.scope.because(f"run:{self.run_id}")) if scoped else opened

    def log_metric(self, key: str, value: float, step: int = 0) -> None:
        """Store one value of a metric of the run."""
        self.log_metrics({key: value}, step)

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Store one value of each of these metrics of the run."""
        self._link.tell(Metrics([(key, _wire(value), step) for key, value in metrics.items()]))

    def set_tag(self, key: str, value: Any) -> None:
        """Set a tag of the run."""
        self._link.tell(Tags({key: str(value)}))

    def log_artifact(self, source: Path | str | bytes, name: str = "") -> None:
        """Keep a file, or bytes, with the run.

        Args:
            name: the path in the run; by default the file's own name. Needed for bytes.

        Raises:
            NotFound: there is no such file.
            Invalid: the name is no safe path.
        """
        if isinstance(source, bytes):
            artifact = (check_path(name), self._objects.put_bytes(source), len(source))
        else:
            path = Path(source)
            digest = self._objects.put_file(path)
            artifact = (check_path(name or path.name), digest, self._objects.stat(digest).size_bytes)
        self._link.tell(Kept([artifact]))

    def log_output(self, ref: str, digest: str = "") -> None:
        """Note something with a ref that the step made, such as a dataset version, in the lineage."""
        self._link.tell(HandedOut(ref, digest))

    def report(self, value: float, step: int) -> None:
        """Tell a search how well it goes so far, and log it as the metric `intermediate`.

        Raises:
            TrialPruned: the trial is not worth going on with.
        """
        if self._link.ask(Report(float(value), step)).prune:
            raise TrialPruned(step)


_workspaces: dict[tuple[str, str, Scope], Any] = {}
_current: list[StepContext] = []


def context() -> StepContext:
    """The step that this process is running.

    Raises:
        Invalid: no step is running here.
    """
    if not _current:
        raise Invalid(
            "no step is running in this process", next_step="call context() inside a step that a pipeline runs"
        )
    return _current[-1]


def enter(step: StepContext | None) -> None:
    """Set the step that this process runs; None when it has ended."""
    _current[:] = [] if step is None else [step]


def _wire(value: float) -> float | str:
    number = float(value)
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
