"""The data plane: queries in, answers out. It knows no transport and no encoding; fronts translate.

What arrives in one turn of the event loop is answered by one run of each model (same-tick micro-batching): no timer,
no waiting, and the busier the process the larger the batches. A model that may block (in a process of its own) and
very large requests have lanes of their own, each with a thread. A batch is written to the prediction log with one call
before any of its answers is given.
"""

from __future__ import annotations

import asyncio
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from typing import NoReturn

from loopwright.core import Invalid, LoopwrightError, NotFound, Unavailable
from loopwright.models import ModelFailed
from loopwright.serve.admission import Limits, Pace, too_much
from loopwright.serve.block import Array, Block
from loopwright.serve.direct import Direct
from loopwright.serve.ids import Ids
from loopwright.serve.keeping import Keeping
from loopwright.serve.lanes import Lane
from loopwright.serve.lingering import Lingering
from loopwright.serve.loaded import LoadedEndpoint, LoadedVariant, predict
from loopwright.serve.metrics import Metrics
from loopwright.serve.parts import in_batches, merged, parts_of, release, settled
from loopwright.serve.prediction_log import PredictionLog
from loopwright.serve.query import Answer, Batch, Gathered, Part, Query
from loopwright.serve.recording import record_queries
from loopwright.serve.shadow import Shadows
from loopwright.serve.statistics import Ran

Run = Callable[[LoadedVariant, list[Part]], None]
"""Answers parts with one run of a model."""


class DataPlane:
    """Answers queries with the endpoints that it was last given. Lives on one event loop; not thread-safe."""

    def __init__(self, log: PredictionLog, metrics: Metrics, limits: Limits | None = None) -> None:
        self.endpoints: dict[str, LoadedEndpoint] = {}
        self.absent: Callable[[str], LoopwrightError] = self._unknown  # why a name has no endpoint in memory
        self.metrics = metrics
        self._log, self.limits = log, limits or Limits()
        self._turn: dict[LoadedVariant, list[Part]] = {}  # what this turn of the event loop answers
        self._gatherers: list[Callable[[], None]] = []
        self._scheduled = False
        self._waiting = 0  # rows of this turn
        self._turn_queries = 0
        self._at_once_rows = self._at_once_requests = 0  # that this turn has answered by the direct way
        self._is_wrapped = False
        self.note: Callable[[str], None] = _not_noted  # told whose model runs on the loop; "" when it has
        self._loop: asyncio.AbstractEventLoop | None = None
        self.pace = Pace()
        self._answered_s = 0.0  # when the last turn ended that left something to the next one
        self._flushed_ns = 0  # when something was answered last
        self._reading_ns = 0  # since when this turn has read, without what was answered meanwhile; 0: not yet
        self.is_hurried = False  # whether what is answered now is so before the turn is over
        self._lanes: dict[object, Lane] = {}  # by predictor
        self._keeping = Keeping(log)
        self._lingering = Lingering()
        self._large = self._lane("large-requests", self.limits.large_rows, 1)
        self._shadows = Shadows(log, metrics, self.limits.queue_rows)

    def replace(self, endpoints: Iterable[LoadedEndpoint], revision: int) -> None:
        """Serve these endpoints from now on. Queries under way end with the models that they started with."""
        before, self.endpoints = self.endpoints, {endpoint.spec.name: endpoint for endpoint in endpoints}
        for name, endpoint in before.items():
            if self.endpoints.get(name) is not endpoint:
                endpoint.retire()
        self.metrics.revision = revision
        served = {item.predictor for endpoint in self.endpoints.values() for item in endpoint.variants}
        for predictor in [predictor for predictor in self._lanes if predictor not in served]:
            self._lanes.pop(predictor).close()

    def endpoint(self, name: str) -> LoadedEndpoint:
        """The endpoint of that name.

        Raises:
            NotFound: none is served under it.
            Loading: its models are on their way into memory.
            Unavailable: they cannot be loaded, or were taken out.
        """
        found = self.endpoints.get(name)
        if found is None:
            raise self.absent(name)
        return found

    def _unknown(self, name: str) -> LoopwrightError:
        served = ", ".join(sorted(self.endpoints)) or "none"
        return NotFound(f"no endpoint {name!r} is served here", next_step=f"served: {served}")

    def admit(self, now_ns: int) -> None:
        """Refuse what this turn has no more time for; fronts ask before they parse.

        Args:
            now_ns: on the monotonic clock.

        Raises:
            Unavailable: more has arrived at once than can be answered soon.
        """
        if self.is_full(now_ns):
            self.metrics.shed += 1
            raise too_much()

    def is_full(self, now_ns: int) -> bool:
        """Whether `admit` would refuse."""
        limits = self.limits
        if self._turn and self.pace.is_overloaded(limits, now_ns) and now_ns - self._flushed_ns > limits.shed_s * 1e9:
            self.hurry()  # as long as there is something to read, the loop has no other turn
            self._reading_ns += self._flushed_ns - now_ns
        read_ns = now_ns - self._reading_ns if self._reading_ns else 0
        is_full = self.pace.is_full(limits, self._waiting, self._turn_queries, now_ns, read_ns)
        if is_full:
            self.pace.refused(now_ns)
        return is_full

    def admit_to(self, endpoint: LoadedEndpoint, now_ns: int) -> None:
        """Refuse what the lanes of an endpoint's models have no time for; fronts may ask before they parse.

        Raises:
            Unavailable: whichever of its variants answered, more waits for it than can be answered soon.
        """
        if not endpoint.inline and self.is_full_for(endpoint, now_ns):
            self.metrics.shed += 1
            raise too_much()

    def is_full_for(self, endpoint: LoadedEndpoint, now_ns: int) -> bool:
        """Whether `admit_to` would refuse."""
        lanes = [self._lanes.get(item.predictor) for item in endpoint.live]
        return all(lane is not None and lane.is_full(self.limits, now_ns) for lane in lanes)

    def slice_rows(self) -> int:
        """How many rows a front that gathers may submit in a turn."""
        limits = self.limits
        if not self.pace.is_overloaded(limits, time.monotonic_ns()):
            return limits.batch_rows
        return max(1, min(limits.batch_rows, self.pace.slice_rows(limits)))

    def submit(self, query: Query, endpoint: LoadedEndpoint) -> None:
        """Take a query; its `reply` is called in the next turn of the event loop, or when its lane has answered.

        Args:
            query: rows that the endpoint's intake made.
            endpoint: the one whose intake made them.

        Raises:
            Unavailable: too many rows wait already.
            NotFound: the version asked for is not served.
            Invalid: too many rows, or the variant that should answer lacks an input.
        """
        limits, weight = self.limits, endpoint.intake.load
        load = query.count * weight
        if load > limits.request_rows:
            most = limits.request_rows // weight
            raise Invalid(f"the request has {query.count} rows; at most {most} are taken at once")
        query.is_large = load > limits.inline_rows
        parts = query.parts = parts_of(query, endpoint)
        query.waiting = len(parts)
        if query.is_large or not endpoint.inline:
            self._submit_aside(query)
            return
        if self._waiting + load > limits.queue_rows:
            self._shed(self._waiting)
        self.metrics.queued_rows += query.count
        self._turn_queries += 1
        self._answer_soon(parts)

    def answer_at_once(
        self, direct: Direct, block: Block, gathered: Gathered
    ) -> tuple[dict[str, Array], Ids | None] | None:
        """Answer what a front has gathered, within its call; None where it is to be submitted: other queries of this
        turn may go into the same run, the rows are too many, or the model fails.

        Returns:
            The outputs, and the ids of the rows; without these the log did not take them.
        """
        load, limits = direct.load(block.count), self.limits
        if self._turn or self._is_wrapped or load > min(limits.request_rows, limits.inline_rows, limits.queue_rows):
            return None
        self.note(direct.endpoint)
        arrays = direct.run(block, gathered)
        self.note("")
        if arrays is None:
            return None
        self._at_once_rows += load
        self._at_once_requests += len(gathered.counts)
        ids = Ids.new(block.count)
        is_kept = self._keeping.keep(direct.records, ids, block, arrays, gathered)
        self.metrics.unlogged += 0 if is_kept else block.count
        return arrays, ids if is_kept else None

    def expect(self, gather: Callable[[], None]) -> None:
        """Have a front called before this turn is answered: it submits what has gathered until then. It must not
        raise."""
        self._gatherers.append(gather)
        self._schedule()

    def hurry(self) -> None:
        """Answer what waits now: for a front that reads so much that the event loop does not come to it."""
        self._flush(is_hurried=True)

    def wrap_runs(self, wrap: Callable[[Run], Run]) -> None:
        """Put something around each run of a model, before anything is asked. Runs of lanes happen on threads."""
        self._is_wrapped = True
        self._answer = wrap(self._answer)  # type: ignore[method-assign,assignment]  # free where nobody watches

    @property
    def idle(self) -> bool:
        """Whether nothing waits for an answer."""
        return not self.metrics.queued_rows and not self._gatherers

    def close(self) -> None:
        """End the lanes and close the log. Nothing may be waiting."""
        for lane in (self._large, *self._lanes.values()):
            lane.close()
        self._shadows.close()
        self._log.close()

    def _answer_soon(self, parts: list[Part]) -> None:
        """Have parts answered in this turn of the event loop."""
        turn = self._turn
        self._reading_ns = self._reading_ns or time.monotonic_ns()
        for part in parts:
            self._waiting += part.load
            mine = turn.get(part.loaded)
            if mine is None:
                turn[part.loaded] = [part]
            else:
                mine.append(part)
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            if self._loop is None or self._loop.is_closed():
                self._loop = asyncio.get_running_loop()  # which asks the system for the process each time
            self._loop.call_soon(self._flush)

    def _submit_aside(self, query: Query) -> None:
        """Take a query of which a part at least has a lane to wait for."""
        lanes = [(part, self._lane_of(part)) for part in query.parts]
        now_ns = time.monotonic_ns()
        for part, lane in lanes:
            if lane is not None and not query.is_large and lane.is_full(self.limits, now_ns):
                self._shed(lane.rows)
            waiting, most = (self._waiting, self.limits.queue_rows) if lane is None else (lane.rows, lane.most_rows)
            if waiting + part.load > most:
                self._shed(waiting)
        self.metrics.queued_rows += query.count
        for part, lane in lanes:
            if lane is None:
                self._answer_soon([part])
            else:
                lane.offer(part)
        self._watch_deadline(query)

    def _shed(self, waiting: int) -> NoReturn:
        self.metrics.shed += 1
        raise Unavailable(f"{waiting} rows wait already", next_step="try again in a second")

    def _lane_of(self, part: Part) -> Lane | None:
        """The lane that a part goes to; None where it is answered in this turn."""
        predictor = part.loaded.predictor
        if predictor.inline:
            return self._large if part.query.is_large else None
        lane = self._lanes.get(predictor)
        if lane is None:
            name = part.loaded.variant.model
            lane = self._lanes[predictor] = self._lane(name, self.limits.lane_rows, self.limits.batch_rows)
        return lane

    def _lane(self, name: str, most_rows: int, batch_rows: int) -> Lane:
        return Lane(name, self._answer_or_fail, self._settle, most_rows, batch_rows)

    def _flush(self, is_hurried: bool = False) -> None:
        """Answer what has arrived; of very much the first, and the others in the next turns."""
        self.is_hurried = is_hurried
        turned_s = time.monotonic()
        began_s = self._answered_s or turned_s
        gatherers, self._gatherers = self._gatherers, []
        for gather in gatherers:
            try:
                gather()
            except Exception as error:  # noqa: BLE001  (a fault of a front; without this turn nobody had another)
                traceback.print_exception(error, file=sys.stderr)
        turn, self._turn = self._turn, {}
        self._scheduled = self._scheduled and is_hurried  # then the loop is still to call
        self._reading_ns = self._reading_ns if is_hurried else 0
        if self._gatherers:
            self._schedule()
        most = self._slice()
        over, load = self._turn_queries > most, self._waiting + self._at_once_rows
        requests = self._at_once_requests
        self._at_once_rows = self._at_once_requests = 0
        self._waiting = self._turn_queries = 0
        finished: list[Query] = []
        for loaded, parts in turn.items():
            for batch in in_batches(parts[:most] if over else parts, self.limits.batch_rows):
                if some := self._in_time(batch):
                    self.note(some[0].query.endpoint)
                    self._answer_or_fail(loaded, some)
                    self.note("")
                finished.extend(settled(batch))
        if finished:
            self._finish(finished)
            release(finished)
        if over:
            self._leave({loaded: parts[most:] for loaded, parts in turn.items() if len(parts) > most})
        requests += sum([query.requests for query in finished])
        self._note_pace(load - self._waiting, requests, began_s, turned_s)
        if requests == 1 and not self._scheduled and self._loop is not None:
            self._lingering.answered(self._loop)

    def _slice(self) -> int:
        """How many requests to each model this turn answers: fewer while others are refused, if these take long."""
        limits, rows = self.limits, self.pace.slice_rows(self.limits)
        if self._waiting <= rows or not self.pace.is_overloaded(limits, time.monotonic_ns()):
            return limits.slice_requests
        return max(1, min(limits.slice_requests, self._turn_queries * rows // self._waiting))

    def _note_pace(self, load: int, requests: int, began_s: float, turned_s: float) -> None:
        """What a turn took; with what came in between, where something was waiting."""
        ended_s = time.monotonic()
        self._flushed_ns = int(ended_s * 1e9)
        if load > 0:
            self.pace.answered(load, requests, ended_s - began_s, ended_s - turned_s)
        self._answered_s = ended_s if self._turn or self._gatherers else 0.0

    def _leave(self, turn: dict[LoadedVariant, list[Part]]) -> None:
        """Have what is left answered in the next turn, before what comes until then."""
        for parts in turn.values():
            self._turn_queries += len(parts)
            self._answer_soon(parts)

    def _in_time(self, parts: list[Part]) -> list[Part]:
        """The parts whose deadline has not passed; the others fail."""
        if not sum([part.query.deadline_ns for part in parts]):
            return parts
        now_ns = time.monotonic_ns()
        for part in parts:
            if 0 < part.query.deadline_ns <= now_ns:
                part.failure = _too_late()
        return [part for part in parts if part.failure is None]

    def _answer_or_fail(self, loaded: LoadedVariant, parts: list[Part]) -> None:
        """Run the model. Whatever goes wrong around it, those who wait are told, and the others have their turn."""
        try:
            self._answer(loaded, parts)
        except Exception as error:  # noqa: BLE001  (reported in full, and told)
            for part in parts:
                part.failure = part.failure or _failure(error)

    def _answer(self, loaded: LoadedVariant, parts: list[Part]) -> None:
        """Run the model once on the rows of all parts; where that fails, on either half of the parts, and so on."""
        began_ns = time.monotonic_ns()
        batch = Batch(len(parts), merged(parts))
        start = 0
        for part in parts:
            part.batch, part.start = batch, start
            start += part.count
        merged_ns = time.monotonic_ns()
        try:
            batch.arrays = predict(loaded, batch.rows)
        except Exception as error:  # noqa: BLE001  (whatever a model does, those who wait are told)
            query = parts[0].query
            if len(parts) == 1 and query.apart is not None and not isinstance(error, Unavailable):
                query.waiting = 0
                self.metrics.queued_rows -= query.count
                query.apart()
                return
            if len(parts) == 1 or isinstance(error, Unavailable):
                for part in parts:
                    part.failure = _failure(error)
                return
            middle = len(parts) // 2
            self._answer(loaded, parts[:middle])
            self._answer(loaded, parts[middle:])
            return
        ended_ns, arrived_ns = time.monotonic_ns(), sum([part.query.arrived_ns for part in parts])
        name, requests = parts[0].query.endpoint, sum([part.query.requests for part in parts])
        self.metrics.runs.ran(Ran(name, loaded.version, requests, start, arrived_ns, began_ns, merged_ns, ended_ns))
        self.metrics.batch.observe(start)

    def _settle(self, parts: list[Part]) -> None:
        """On the event loop: what a lane has answered."""
        if finished := settled(parts):
            self._finish(finished)
            release(finished)

    def _watch_deadline(self, query: Query) -> None:
        loop = asyncio.get_running_loop()
        left_s = (query.deadline_ns - time.monotonic_ns()) * 1e-9 if query.deadline_ns else self.limits.wait_s
        query.timer = loop.call_later(max(0.0, left_s), self._expire, query)

    def _expire(self, query: Query) -> None:
        """Answer a query whose time is up, whatever its lanes are doing."""
        if query.waiting:
            query.waiting = 0
            query.failure = _too_late()
            self._finish([query])

    def _finish(self, queries: list[Query]) -> None:
        """Log what was answered, then answer."""
        if not self._log_answers(queries):
            for query in queries:
                query.given_ids = [""] * query.count
        for query in queries:
            self.metrics.queued_rows -= query.count
            if query.timer is not None:
                query.timer.cancel()
            if query.failure is not None:
                for part in query.parts:
                    self.metrics.runs.failed(query.endpoint, part.loaded.version, query.started_ns)
                query.reply(query.failure)
                continue
            answer = Answer(query)
            try:
                query.reply(answer)
                if query.parts[0].endpoint.shadows:
                    self._shadows.offer(answer)
            except Exception as error:  # noqa: BLE001  (others of this turn wait for their replies)
                traceback.print_exception(error, file=sys.stderr)
        self.metrics.runs.answered()

    def _log_answers(self, queries: list[Query]) -> bool:
        """Log answers; whether that was done. An answer that the log did not take carries no prediction id."""
        if self._keeping.keep(record_queries, queries, self.metrics, self._log.secret):
            return True
        self.metrics.unlogged += sum([query.count for query in queries if query.failure is None])
        return False


def _not_noted(_endpoint: str) -> None: ...


def _too_late() -> Unavailable:
    return Unavailable("the deadline passed before a model could answer", next_step="allow more time, or send less")


def _failure(error: Exception) -> LoopwrightError:
    """What a caller is told; an error that nobody raised on purpose is reported in full."""
    if isinstance(error, LoopwrightError):
        return error
    traceback.print_exception(error, file=sys.stderr)
    return ModelFailed(f"the model failed: {type(error).__name__}")
