"""One run of a graph: which step is next, in which process, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event, Lock

import msgspec

from loopwright.core import Unavailable, progress
from loopwright.pipeline.arguments import cache_key, fill, needs
from loopwright.pipeline.failures import Attempt, RunPruned, StepFailed
from loopwright.pipeline.messages import Advice, Done, Execute, Note, Pruned, Raised, note_lists
from loopwright.pipeline.model import Argument, Graph, Made, StepCall, StepRun, StepStatus, Stored
from loopwright.pipeline.records import Records
from loopwright.pipeline.workers import Listener, Worker, WorkerDied, WorkerPool, WorkerTimeout
from loopwright.store import ObjectStore


class Task(msgspec.Struct, frozen=True):
    """What a run of a graph is given beside the graph.

    `digests` are those of the pinned dataset refs. `recorded` are the steps of the run that is reproduced: of those
    that have an effect, the output is taken from there.
    """

    run_id: str
    graph: Graph
    environment: str
    seed: int
    digests: dict[str, str]
    use_cache: bool = True
    recorded: dict[str, StepRun] = {}


class Outcome(msgspec.Struct, frozen=True):
    """What came of running a step. `heard` is what it told on the way."""

    output: Stored
    seconds: float
    attempts: int
    heard: list[Note]


class Execution:
    """Runs the steps of a graph as their inputs become ready; each step's end is on record before another begins."""

    def __init__(
        self, task: Task, records: Records, objects: ObjectStore, pool: WorkerPool, listener: Listener, logs: Path
    ) -> None:
        """Args:
        listener: is told what steps tell, and answers their reports.
        logs: the folder for what they print, one file a step.
        """
        self.task, self._records, self._objects = task, records, objects
        self._pool, self._listener, self._logs = pool, listener, logs
        self._before = records.steps(task.run_id)
        self.steps = {call.name: StepRun(call.name, StepStatus.WAITING) for call in task.graph.steps}
        self._stopping = Event()
        self._busy: set[Worker] = set()
        self._lock = Lock()

    @property
    def outputs(self) -> dict[str, Stored]:
        """The outputs of the steps that have finished."""
        return {name: step.output for name, step in self.steps.items() if step.output is not None}

    def run(self) -> None:
        """Run every step.

        Raises:
            StepFailed: a step did not succeed; the others were stopped.
            RunPruned: a search has seen enough.
        """
        running: dict[Future[Outcome], StepCall] = {}
        graph = self.task.graph
        with (
            progress(graph.pipeline, len(graph.steps)) as bar,
            ThreadPoolExecutor(self._pool.size, thread_name_prefix="loopwright-step") as threads,
        ):
            try:
                while any(step.status is not StepStatus.FINISHED for step in self.steps.values()):
                    if not self._start_ready(running, threads):
                        ended, _ = wait(running, return_when=FIRST_COMPLETED)
                        for future in ended:
                            self._finish(running.pop(future), future)
                            bar.advance()
            except BaseException:
                self._stop()
                raise

    def _start_ready(self, running: dict[Future[Outcome], StepCall], threads: ThreadPoolExecutor) -> bool:
        """Bring one more step on its way; False when none is ready or no process is free."""
        for call in self.task.graph.steps:
            if self.steps[call.name].status is not StepStatus.WAITING or not needs(call) <= self.outputs.keys():
                continue
            arguments = {name: fill(argument, self.outputs) for name, argument in call.arguments.items()}
            key = self._key(call, arguments)
            if self._reuse(call, key):
                return True
            if len(running) < self._pool.size:
                self._save(call, StepRun(call.name, StepStatus.RUNNING, key=key))
                running[threads.submit(self._attempts, call, arguments)] = call
                return True
        return False

    def _key(self, call: StepCall, arguments: Mapping[str, Argument]) -> str:
        task = self.task
        return cache_key(call, arguments, environment=task.environment, seed=task.seed, digests=task.digests)

    def _reuse(self, call: StepCall, key: str) -> bool:
        """Take an output that is there; what its step logged is logged for this run, too."""
        made = self._made_before(call, key)
        if made is None:
            return False
        # The notes come first: a step on record as finished is one whose notes are there.
        if made.notes and made.run_id != self.task.run_id:
            for note in note_lists.decode(self._objects.get(made.notes)):
                self._listener(note)
        self._save(call, StepRun(call.name, StepStatus.FINISHED, True, key=key, output=made.output, origin=made.run_id))
        return True

    def _made_before(self, call: StepCall, key: str) -> Made | None:
        """What this very run made before it was stopped, or where the step allows it, what any run made."""
        recorded, mine = self.task.recorded.get(call.name), self._before.get(call.name)
        if call.options.effect and recorded is not None and recorded.output is not None:
            return Made(recorded.output, "", recorded.origin)
        if mine is not None and (mine.status, mine.key) == (StepStatus.FINISHED, key) and mine.output is not None:
            return Made(mine.output, "", mine.origin) if self._records.is_whole(mine.output) else None
        return self._records.find_output(key) if call.options.cache and self.task.use_cache else None

    def _attempts(self, call: StepCall, arguments: dict[str, Argument]) -> Outcome:
        """Run a step in a process, again if it may be."""
        for attempt in range(1, call.options.retries + 2):
            heard: list[Note] = []
            try:
                done = self._attempt(call, arguments, heard)
                return Outcome(done.output, done.seconds, attempt, heard)
            except Attempt:
                if attempt > call.options.retries or self._stopping.is_set():
                    raise
        raise AssertionError("a step is tried at least once")

    def _attempt(self, call: StepCall, arguments: dict[str, Argument], heard: list[Note]) -> Done:
        def listen(note: Note) -> Advice | None:
            heard.append(note)
            return self._listener(note)

        request = Execute(self.task.run_id, call, arguments, self.task.seed, str(self._logs / f"{call.name}.txt"))
        worker = self._take_worker()
        try:
            answer = worker.ask(request, listener=listen, timeout_s=call.options.timeout_s)
        except WorkerTimeout:
            self._discard(worker)
            raise Attempt("Timeout", f"it did not end within its {call.options.timeout_s:g} s") from None
        except WorkerDied as death:
            self._discard(worker)
            raise Attempt("ProcessError", str(death), traceback=death.told) from None
        self._give_back(worker)
        if isinstance(answer, Raised):
            raise Attempt.raised(answer)
        if isinstance(answer, Pruned):
            raise RunPruned(answer.step)
        if not isinstance(answer, Done):
            raise Unavailable(f"a worker answered a step with {type(answer).__name__}")
        return answer

    def _finish(self, call: StepCall, future: Future[Outcome]) -> None:
        step = self.steps[call.name]
        try:
            outcome = future.result()
        except Attempt as attempt:
            self._save(call, msgspec.structs.replace(step, status=StepStatus.FAILED, error=str(attempt)))
            raise StepFailed(
                f"step {call.name!r} of {self.task.graph.pipeline} failed: {attempt}",
                run_id=self.task.run_id,
                step=call.name,
                where=attempt.where,
                traceback=attempt.traceback,
            ) from None
        except RunPruned:
            self._save(call, msgspec.structs.replace(step, status=StepStatus.PRUNED))
            raise
        notes = self._objects.put_bytes(msgspec.json.encode(outcome.heard)) if outcome.heard else ""
        finished = StepRun(
            name=call.name,
            status=StepStatus.FINISHED,
            seconds=outcome.seconds,
            key=step.key,
            output=outcome.output,
            origin=self.task.run_id,
            attempts=outcome.attempts,
        )
        self._save(call, finished, notes)

    def _save(self, call: StepCall, step: StepRun, notes: str = "") -> None:
        self.steps[call.name] = step
        position = next(number for number, item in enumerate(self.task.graph.steps) if item.name == call.name)
        self._records.save_step(self.task.run_id, position, step, call.function, notes)

    def _stop(self) -> None:
        """Kill what still runs; a step that was not at its end has no output."""
        with self._lock:
            self._stopping.set()
            for worker in self._busy:
                worker.kill()
        for call in self.task.graph.steps:
            step = self.steps[call.name]
            if step.status in (StepStatus.RUNNING, StepStatus.WAITING):
                self._save(call, msgspec.structs.replace(step, status=StepStatus.STOPPED))

    def _take_worker(self) -> Worker:
        try:
            worker = self._pool.take()
        except OSError as error:
            raise Attempt("ProcessError", f"no worker could be started: {error}") from None
        with self._lock:
            if not self._stopping.is_set():
                self._busy.add(worker)
                return worker
        self._pool.give_back(worker)
        raise Attempt("Stopped", "another step failed")

    def _give_back(self, worker: Worker) -> None:
        with self._lock:
            self._busy.discard(worker)
        self._pool.give_back(worker)

    def _discard(self, worker: Worker) -> None:
        with self._lock:
            self._busy.discard(worker)
        self._pool.discard(worker)
