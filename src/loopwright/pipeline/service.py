"""What one can ask of pipelines."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.core import Invalid, Scope, operation
from loopwright.pipeline.codecs import load_value
from loopwright.pipeline.compute import workers_on
from loopwright.pipeline.definition import Pipeline
from loopwright.pipeline.differing import code_difference
from loopwright.pipeline.messages import Setup
from loopwright.pipeline.model import CodeDifference, PipelineRecord, PipelineRun, Reproduction, RunRequest, StepStatus
from loopwright.pipeline.notes import OnReport
from loopwright.pipeline.records import Records
from loopwright.pipeline.running import Runner, Session
from loopwright.pipeline.scratch import scratch_folder
from loopwright.pipeline.workers import WorkerPool
from loopwright.store import Stores
from loopwright.track import RunService

if TYPE_CHECKING:
    from loopwright.data import DatasetService

_MAX_WORKERS = 4


class PipelineService:
    """Pipelines of one project, run where the setting `compute` says."""

    def __init__(
        self,
        stores: Stores,
        scope: Scope,
        *,
        runs: RunService,
        datasets: DatasetService | None = None,
        open_workspace: str = "loopwright.workspace:reopen",
    ) -> None:
        """Args:
        datasets: what refs of datasets in parameters are looked up with.
        open_workspace: `module:function` that a step's `context().ws` is made by, from the root and a Scope.
        """
        self.stores, self.scope, self.runs = stores, scope, runs
        self._open_workspace = open_workspace
        self._records = Records(stores, scope.project)
        self._runner = Runner(stores, scope, runs, datasets, self._records)

    def run(
        self,
        pipeline: Pipeline[..., Any] | str,
        params: Mapping[str, Any] | None = None,
        experiment: str | None = None,
        run_id: str | None = None,
        use_cache: bool = True,
        workers: int | None = None,
        *,
        seed: int = 0,
        name: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> PipelineRun:
        """Run a pipeline to its end.

        Args:
            pipeline: the pipeline, or `module:function` importable from the project's root.
            params: its parameters; a dataset's ref without a version means the newest, and is pinned for the run.
            experiment: where the run belongs; by default the pipeline's name.
            run_id: the id of a run that did not finish, to go on with it; or a new id from `new_id()`.
            use_cache: whether outputs of other runs may be used.
            workers: how many steps may run at once; by default one per core, at most 4.
            seed: seeds `random`, NumPy and torch in each step, and is a part of every cache key.

        Raises:
            StepFailed: a step did not succeed. The run is marked failed; it keeps the traceback as an artifact.
            Invalid: no such parameter, one of another type, or a pipeline that cannot be built.
            NotFound: no such module, function or dataset.
            Conflict: the run has finished, or was started with another pipeline or other parameters.
        """
        request = RunRequest(
            pipeline=pipeline if isinstance(pipeline, str) else pipeline.ref,
            params=dict(params or {}),
            experiment=experiment or "",
            run_id=run_id or "",
            use_cache=use_cache,
            seed=seed,
            name=name,
            tags=dict(tags or {}),
        )
        with self.session(workers=workers) as session:
            return self.run_in(session, request)

    def run_in(self, session: Session, request: RunRequest, on_report: OnReport | None = None) -> PipelineRun:
        """Run a pipeline in processes that are there already. Raises as `run` does.

        Args:
            on_report: is told what steps report, and at which step; true prunes the run.
        """
        return self._runner.run(session, request, on_report)

    @contextmanager
    def session(self, *, workers: int | None = None, code_root: Path | None = None) -> Iterator[Session]:
        """Workers that several runs share, so that heavy imports are made once.

        Args:
            workers: how many at most; by default one per core of this machine, at most 4.
            code_root: where the project's code is, if not in the workspace's folder.

        Raises:
            Invalid: the setting `compute` cannot be followed, or needs an extra that is missing.
            Unavailable: the cluster that it names does not answer.
        """
        if workers is not None and workers < 1:
            raise Invalid(f"{workers} workers cannot run a pipeline", next_step="give at least 1")
        size = workers or min(_MAX_WORKERS, os.cpu_count() or 1)
        with scratch_folder(self.stores.data) as scratch, workers_on(self.stores) as start:
            pool = WorkerPool(self._setup(scratch, code_root), size, start)
            try:
                yield Session(pool, scratch, self.stores.objects)
            finally:
                pool.close()

    @operation("pipelines.get", permission="runs:read")
    def get(self, run: str) -> PipelineRun:
        """How a run of a pipeline stands: its steps, and its outputs once it has finished.

        Raises:
            NotFound: there is no such run, or no pipeline made it.
        """
        found = self.runs.get(run)
        record = self._records.get(found.id)
        steps = tuple(self._records.steps(found.id).values())
        status = "pruned" if any(step.status is StepStatus.PRUNED for step in steps) else found.status.value
        return self._runner.result(record.run_id, status, record.outputs, steps, found.error)

    @operation("pipelines.record", permission="runs:read")
    def record(self, run: str) -> PipelineRecord:
        """What a run was asked to do and what it ran on.

        Raises:
            NotFound: there is no such run, or no pipeline made it.
        """
        return self._records.get(self.runs.get(run).id)

    @operation("pipelines.differences", permission="runs:read")
    def differences(self, first: str, second: str) -> CodeDifference | None:
        """What changed in code, environment and inputs from one run to another; None where one captured nothing.

        Raises:
            NotFound: one of the runs is not there.
        """
        records = (self._records.find(self.runs.get(run).id) for run in (first, second))
        return code_difference(self.stores.objects, *records)

    def load(self, run: str, output: str = "result") -> Any:
        """The value of an output of a finished run. An output that is kept in files is read with `load_into`.

        Raises:
            NotFound: there is no such run.
            Invalid: it hands out nothing of that name.
        """
        with scratch_folder(self.stores.data) as scratch:
            return self.load_into(run, output, scratch)

    def load_into(self, run: str, output: str, folder: Path) -> Any:
        """The value of an output; what it keeps in files is written below `folder`.

        Raises:
            NotFound: there is no such run.
            Invalid: it hands out nothing of that name.
        """
        record = self.record(run)
        stored = record.outputs.get(output)
        if stored is None:
            known = ", ".join(record.outputs) or "none"
            raise Invalid(f"run {record.run_id} hands out nothing called {output!r}", next_step=f"its outputs: {known}")
        return load_value(self.stores.objects, stored, folder)

    def reproduce(self, run: str, *, tolerance: float = 1e-6, workers: int | None = None) -> Reproduction:
        """Run a run again from what it captured, without the cache, and compare what the steps made and the metrics.

        Steps with an effect are not run again; their recorded output is used.

        Args:
            tolerance: how far numbers may lie apart, relative to their size, to count as the same result.

        Raises:
            NotFound: there is no such run, or no pipeline made it.
            Conflict: the run did not finish.
            StepFailed: a step fails now.
        """
        from loopwright.pipeline.reproducing import reproduce

        return reproduce(self, run, tolerance=tolerance, workers=workers)

    def _setup(self, scratch: Path, code_root: Path | None) -> Setup:
        settings = self.stores.location.settings
        return Setup(
            root=str(self.stores.root),
            code_root=str((code_root or self.stores.root).resolve()),
            scratch=str(scratch),
            search_path=tuple(str(Path(entry or ".").resolve()) for entry in sys.path),
            objects=settings.objects or str(self.stores.data / "objects"),
            objects_options=settings.storage_options,
            scope=self.scope,
            open_workspace=self._open_workspace,
        )
