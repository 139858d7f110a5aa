"""Scoring by the ref of a registered model, recorded as a run, wherever models and runs are kept."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from loopwright.core import Invalid
from loopwright.serve.batch.model import ScoringOptions, ScoringReport
from loopwright.serve.batch.scoring import Watch, score, threads_of
from loopwright.serve.batch.slices import scorer_of
from loopwright.serve.batch.sources import Rows, open_rows

if TYPE_CHECKING:
    from loopwright.models import Bundle, ModelVersion
    from loopwright.serve.batch.answering import Lanes

EXPERIMENT = "scoring"
DATASET = "dataset:"


class Models(Protocol):
    """A registry."""

    def get(self, ref: str) -> ModelVersion:
        """A version."""
        ...

    def bundle(self, ref: str) -> Bundle:
        """What it holds, verified, on this machine."""
        ...


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One scoring: which rows, and what they and the output are called.

    Attributes:
        inputs: what the run read beside the model: (ref, digest) of what has a ref.
        run: its id, where somebody minted one.
        tags: of its run.
    """

    version: Any
    bundle: Any
    rows: Rows
    source: str
    output: Path
    told: str
    options: ScoringOptions
    format: str = ""
    inputs: tuple[tuple[str, str], ...] = ()
    run: str = ""
    tags: dict[str, str] = {}


class RecordedScoring:
    """Scores files of this machine, and tells the workspace of it."""

    def __init__(
        self,
        models: Models,
        runs: Any,
        lanes: Callable[[Bundle, ScoringOptions], AbstractContextManager[Lanes | None]] = lambda *_: nullcontext(),
    ) -> None:
        """Args:
        models, runs: of the workspace.
        lanes: where models answer; None for in this process.
        """
        self._models, self._runs, self._lanes = models, runs, lanes

    def predict(
        self,
        model: str,
        source: str | Path,
        output: str | Path,
        options: ScoringOptions | None = None,
        format: str = "",
    ) -> ScoringReport:
        """Write a model's answers for all rows of a source, and record it as a run of the experiment `scoring`.

        Said again after it was interrupted, it goes on behind its last whole part, in the same run.

        Args:
            model: a version's ref, such as `model:delay@champion`.
            source: a file, a folder of files, or a Delta table.
            output: a file (`.parquet`, `.csv`, `.jsonl`), or the name of a folder.
            format: `delta` appends to the Delta table that `output` names.

        Raises:
            NotFound: there is no such model, version or file.
            Conflict: the output is there, or an unfinished scoring of something else is in its place.
            Invalid: the rows do not fit the model: column and row are named.
            Unavailable: the disk is full or read-only, or the workspace does not answer.
        """
        if str(source).startswith(DATASET) or str(output).startswith(DATASET):
            raise Invalid(
                "datasets are scored where the workspace is",
                next_step="declare a scoring job (loopwright scoring apply FILE), and trigger it from here",
            )
        chosen = options or ScoringOptions()
        version = self._models.get(model)
        bundle = self._models.bundle(version.ref)
        path = Path(output)
        report = self.carry_out(
            Task(
                version=version,
                bundle=bundle,
                rows=open_rows(Path(source), bundle.signature),
                source=str(source),
                output=path,
                told=str(path.absolute()),
                options=chosen,
                format=format,
            )
        )
        self._runs.finish(report.run)
        return report

    def carry_out(self, task: Task, watch: Watch | None = None) -> ScoringReport:
        """Score, within a run that tells how it went; where it went well the run is left open.

        Raises as `predict` does.
        """
        from loopwright.track import RunStatus

        begun: list[str] = []

        def begin(known: str) -> str:
            begun.append(self._begin(task, task.run or known))
            return begun[0]

        try:
            with self._lanes(task.bundle, task.options) as lanes:
                threads = 1 if lanes is not None else threads_of(task.options)
                report = score(
                    scorer_of(task.bundle, threads),
                    task.rows,
                    task.output,
                    task.options,
                    model=task.version.ref,
                    digest=task.version.bundle,
                    source=task.source,
                    format=task.format,
                    begin=begin,
                    lanes=lanes,
                    watch=watch,
                )
        except BaseException as error:
            for run in begun:
                self._runs.finish(run, RunStatus.FAILED, f"{type(error).__name__}: {error}"[:2000])
            raise
        figures = ("rows", "bad_rows", "resumed_rows", "seconds")
        self._runs.log_metrics(report.run, {name: float(getattr(report, name)) for name in figures})
        return report

    def _begin(self, task: Task, known: str) -> str:
        """The id of the run as which a scoring is recorded: the known one goes on."""
        from loopwright.track import RunInput

        version = task.version
        params = {"model": version.ref, "input": task.source, "output": task.told}
        run = self._runs.start(EXPERIMENT, params=params, tags=task.tags, kind="scoring", run_id=known)
        inputs = [RunInput(ref, "rows", digest) for ref, digest in task.inputs]
        self._runs.log_inputs(run.id, [RunInput(version.ref, "model", version.bundle), *inputs])
        identifier: str = run.id
        return identifier
