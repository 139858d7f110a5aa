"""One run of a pipeline, from the request to its end: bind, pin, build, record, execute, hand out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core import Conflict, Invalid, LoopwrightError, Scope, digest_bytes, encode, is_id
from loopwright.pipeline.arguments import dataset_refs, graph_dataset_refs, pinned_graph, pinned_value
from loopwright.pipeline.capture import capture_run
from loopwright.pipeline.codecs import inline_value
from loopwright.pipeline.execution import Execution, Task
from loopwright.pipeline.failures import RunPruned, StepFailed
from loopwright.pipeline.messages import Bind, Bound, Build, Built
from loopwright.pipeline.model import (
    Capture,
    Graph,
    PipelineRecord,
    PipelineRun,
    RunRequest,
    StepRun,
    Stored,
)
from loopwright.pipeline.notes import NoteTaker, OnReport
from loopwright.pipeline.outputs import stored_outputs
from loopwright.pipeline.records import Records
from loopwright.pipeline.workers import WorkerPool
from loopwright.store import ObjectStore, Stores
from loopwright.track import RunInput, RunService, RunStatus

if TYPE_CHECKING:
    from loopwright.data import DatasetService

_LONGEST_PARAM = 1000
_LOG_BYTES = 1 << 20
_LONGEST_ERROR = 2000
TRACEBACK_PATH = "error/traceback.txt"


class Session:
    """Workers and a folder for them, shared by the runs that are made in it."""

    def __init__(self, pool: WorkerPool, scratch: Path, objects: ObjectStore) -> None:
        self.pool, self.scratch, self._objects = pool, scratch, objects

    @cached_property
    def capture(self) -> Capture:
        """What the session's runs run on: taken once, as the workers import the code once."""
        return capture_run(self._objects, Path(self.pool.setup.code_root), 0)


class Pins:
    """Refs of datasets as they were given, each with the version that it means in this run, and its digest."""

    def __init__(self, datasets: DatasetService | None, given: Mapping[str, str]) -> None:
        self._datasets = datasets
        self.versions: dict[str, str] = dict(given)
        self.digests: dict[str, str] = {}

    def add(self, refs: set[str]) -> None:
        """Pin refs.

        Raises:
            NotFound: there is no such dataset or version.
        """
        if refs and self._datasets is None:
            raise Invalid("this service knows no datasets", next_step="open the workspace instead")
        for ref in sorted(refs):
            version = self._datasets.get(self.versions.get(ref, ref))  # type: ignore[union-attr]  # checked above
            self.versions[ref] = version.ref
            self.digests[version.ref] = version.digest


class Runner:
    """Runs pipelines in one session."""

    def __init__(
        self, stores: Stores, scope: Scope, runs: RunService, datasets: DatasetService | None, records: Records
    ) -> None:
        self._stores, self._scope, self._runs, self._datasets = stores, scope, runs, datasets
        self._records = records

    def run(self, session: Session, request: RunRequest, on_report: OnReport | None) -> PipelineRun:
        """See `PipelineService.run`."""
        before = self._before(request)
        pins = Pins(self._datasets, {**request.pins, **(before.inputs if before else {})})
        # The first thing that a worker does is to import the project's code; the capture is made meanwhile.
        with session.pool.lent() as worker:
            capture = msgspec.structs.replace(session.capture, seed=request.seed)
            bound = worker.ask_for(Bind(request.pipeline, request.params), Bound).params
            pins.add(dataset_refs(bound))
            params = pinned_value(bound, pins.versions)
            graph = worker.ask_for(Build(request.pipeline, params), Built).graph
        pins.add(graph_dataset_refs(graph))
        if before is not None and encode(before.params) != encode(params):
            raise Conflict(f"run {before.run_id} was started with other parameters", next_step="start a new run")
        run_id = self._start(request, params)
        self._record(PipelineRecord(run_id, request.pipeline, params, pins.versions, request.seed, capture), pins)
        task = Task(
            run_id=run_id,
            graph=pinned_graph(graph, pins.versions),
            environment=capture.environment,
            seed=request.seed,
            digests=pins.digests,
            use_cache=request.use_cache,
            recorded=request.recorded,
        )
        return self._execute(task, session, on_report)

    def result(
        self, run_id: str, status: str, outputs: Mapping[str, Stored], steps: tuple[StepRun, ...], error: str
    ) -> PipelineRun:
        """The record that is handed out."""
        values = {name: inline_value(self._stores.objects, stored) for name, stored in outputs.items()}
        return PipelineRun(run_id, status, values, steps, error)

    def _before(self, request: RunRequest) -> PipelineRecord | None:
        if not request.run_id:
            return None
        if not is_id(request.run_id):
            raise Invalid(f"{request.run_id[:60]!r} is not a run id", next_step="an id has 32 hex digits")
        found = self._records.find(request.run_id)
        if found is not None and found.pipeline != request.pipeline:
            raise Conflict(
                f"run {found.run_id} is one of {found.pipeline}, not of {request.pipeline}", next_step="start a new run"
            )
        return found

    def _start(self, request: RunRequest, params: Mapping[str, Any]) -> str:
        return self._runs.start(
            experiment=request.experiment or request.pipeline.rpartition(":")[2],
            name=request.name,
            params={key: param_text(value) for key, value in params.items()},
            tags={"pipeline": request.pipeline, "seed": str(request.seed), **request.tags},
            parent=request.parent,
            run_id=request.run_id,
            kind=request.kind,
        ).id

    def _record(self, record: PipelineRecord, pins: Pins) -> None:
        """Keep the record with its lineage: datasets, code and environment lead to the run."""
        ref, project = f"run:{record.run_id}", self._scope.project
        with self._stores.db.begin() as tx:
            self._records.begin(tx, record)
            for kind, digest, attrs in _sources(record.capture):
                self._stores.lineage.node(tx, f"{kind}:{digest}", digest=digest, attrs=attrs, project=project)
                self._stores.lineage.edge(tx, f"{kind}:{digest}", ref, kind, project)
        if pins.versions:
            inputs = [RunInput(to, given, pins.digests.get(to, "")) for given, to in sorted(pins.versions.items())]
            self._runs.log_inputs(record.run_id, inputs)

    def _execute(self, task: Task, session: Session, on_report: OnReport | None) -> PipelineRun:
        notes = NoteTaker(self._runs, self._stores.clock, task.run_id, on_report)
        execution = Execution(task, self._records, self._stores.objects, session.pool, notes, session.scratch)
        try:
            execution.run()
            outputs = stored_outputs(self._stores.objects, task.graph.outputs, execution.outputs)
        except RunPruned as pruned:
            self._runs.set_tags(task.run_id, {"pruned": str(pruned.step)})
            self._runs.finish(task.run_id)
            return self.result(task.run_id, "pruned", {}, tuple(execution.steps.values()), "")
        except (KeyboardInterrupt, SystemExit) as stop:
            self._runs.finish(task.run_id, RunStatus.KILLED, f"stopped by {type(stop).__name__}")
            raise
        except Exception as error:
            try:
                self._fail(task.run_id, error)
            except LoopwrightError as trouble:
                error.add_note(f"the run could not be marked failed: {trouble}")
            raise
        finally:
            self._keep_logs(task.run_id, task.graph, session.scratch)
        self._records.save_outputs(task.run_id, outputs)
        self._runs.finish(task.run_id)
        return self.result(task.run_id, "finished", outputs, tuple(execution.steps.values()), "")

    def _fail(self, run_id: str, error: Exception) -> None:
        trace = error.traceback if isinstance(error, StepFailed) else ""
        if trace:
            self._runs.log_artifact(run_id, trace.encode(errors="replace"), TRACEBACK_PATH)
        message = error.message if isinstance(error, StepFailed) else f"{type(error).__name__}: {error}"
        self._runs.finish(run_id, RunStatus.FAILED, message[:_LONGEST_ERROR])

    def _keep_logs(self, run_id: str, graph: Graph, scratch: Path) -> None:
        for call in graph.steps:
            log = scratch / f"{call.name}.txt"
            if log.exists() and log.stat().st_size:
                self._runs.log_artifact(run_id, log.read_bytes()[-_LOG_BYTES:], f"logs/{call.name}.txt")
            log.unlink(missing_ok=True)


def param_text(value: Any) -> str:
    """A parameter as a run's param: text as it is, the rest as JSON, long ones cut with their digest."""
    text = value if isinstance(value, str) else encode(msgspec.to_builtins(value)).decode()
    if len(text) <= _LONGEST_PARAM:
        return text
    return f"{text[:200]}… ({len(text)} characters, digest {digest_bytes(text.encode())[:16]})"


def _sources(capture: Capture | None) -> Iterator[tuple[str, str, dict[str, Any]]]:
    if capture is None:
        return
    if capture.code:
        attrs = {"files": capture.files, "git_commit": capture.git_commit, "git_dirty": capture.git_dirty}
        yield "code", capture.code, attrs
    yield "environment", capture.environment, {"python": capture.python, "loopwright": capture.loopwright}
