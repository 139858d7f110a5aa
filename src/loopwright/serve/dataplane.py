"""The data plane: queries in, answers out. It knows no transport and no encoding; fronts translate.

What arrives in one turn of the event loop is answered by one run of each model (same-tick micro-batching): no timer,
no waiting, and the busier the process the larger the batches. A batch is written to the prediction log with one call
before any of its answers is given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from loopwright.core import Invalid, LoopwrightError, NotFound, Unavailable
from loopwright.serve.loaded import LoadedEndpoint, LoadedVariant, predict
from loopwright.serve.metrics import Metrics
from loopwright.serve.prediction_log import PredictionLog, Record
from loopwright.serve.query import Answer, Part, Query
from loopwright.serve.recording import record_query
from loopwright.serve.shadow import Shadows


class Limits(msgspec.Struct, frozen=True):
    """What bounds the data plane's memory and the length of its turns.

    Attributes:
        queue_rows: how many rows may wait; a request that would exceed it is refused.
        request_rows: how many rows one request may have.
        batch_rows: how many rows a model answers at once.
        inline_rows: a request with more is large: it is answered on a thread, so that small ones need not wait.
        large_rows: how many rows of large requests may wait; they have a queue of their own.
    """

    queue_rows: int = 16_384
    request_rows: int = 65_536
    batch_rows: int = 2_048
    inline_rows: int = 4_096
    large_rows: int = 131_072


class DataPlane:
    """Answers queries with the endpoints that it was last given. Lives on one event loop; not thread-safe."""

    def __init__(self, log: PredictionLog, metrics: Metrics, limits: Limits | None = None) -> None:
        self.endpoints: dict[str, LoadedEndpoint] = {}
        self.metrics = metrics
        self._log, self._limits = log, limits or Limits()
        self._lanes: dict[LoadedVariant, list[Part]] = {}
        self._scheduled = False
        self._waiting = {False: 0, True: 0}  # rows that wait, of small and of large requests
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="loopwright-large-requests")
        self._shadows = Shadows(log, metrics, self._limits.queue_rows)

    def replace(self, endpoints: Iterable[LoadedEndpoint], revision: int) -> None:
        """Serve these endpoints from now on. Queries under way end with the models that they started with."""
        self.endpoints = {endpoint.spec.name: endpoint for endpoint in endpoints}
        self.metrics.revision = revision

    def endpoint(self, name: str) -> LoadedEndpoint:
        """The endpoint of that name.

        Raises:
            NotFound: none is served under it.
        """
        found = self.endpoints.get(name)
        if found is None:
            served = ", ".join(sorted(self.endpoints)) or "none"
            raise NotFound(f"no endpoint {name!r} is served here", next_step=f"served: {served}")
        return found

    def submit(self, query: Query, endpoint: LoadedEndpoint) -> None:
        """Take a query; its `reply` is called in the next turn of the event loop, or later for very large ones.

        Args:
            query: rows that the endpoint's intake made.
            endpoint: the one whose intake made them.

        Raises:
            Unavailable: too many rows wait already.
            NotFound: the version asked for is not served.
            Invalid: too many rows, or the variant that should answer lacks an input.
        """
        count = len(query.rows)
        if count > self._limits.request_rows:
            raise Invalid(f"the request has {count} rows; at most {self._limits.request_rows} are taken at once")
        query.is_large = count > self._limits.inline_rows
        waiting = self._waiting[query.is_large]
        if waiting + count > (self._limits.large_rows if query.is_large else self._limits.queue_rows):
            self.metrics.shed += 1
            raise Unavailable(f"{waiting} rows wait already", next_step="try again in a second")
        parts = _parts(query, endpoint)
        query.waiting = len(parts)
        self._waiting[query.is_large] += count
        self.metrics.queued_rows += count
        for part in parts:
            self._lanes.setdefault(part.loaded, []).append(part)
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    @property
    def idle(self) -> bool:
        """Whether nothing waits for an answer."""
        return not self.metrics.queued_rows

    def close(self) -> None:
        """Stop the helper thread and close the log. Nothing may be waiting."""
        self._pool.shutdown()
        self._log.close()

    def _flush(self) -> None:
        """Answer all that waits."""
        lanes, self._lanes = self._lanes, {}
        self._scheduled = False
        finished: list[Query] = []
        for loaded, parts in lanes.items():
            for batch in _batches(parts, self._limits.batch_rows):
                if batch[0].query.is_large:
                    self._answer_aside(loaded, batch[0])
                else:
                    self._answer(loaded, batch)
                    finished.extend(_settled(batch))
        if finished:
            self._finish(finished)

    def _answer(self, loaded: LoadedVariant, batch: list[Part]) -> None:
        """Run the model once on the rows of all parts; where that fails, once for each part."""
        rows = batch[0].rows if len(batch) == 1 else [row for part in batch for row in part.rows]
        try:
            outputs = predict(loaded, rows)
        except LoopwrightError as error:
            if len(batch) == 1:
                batch[0].failure = error
                return
            for part in batch:
                self._answer(loaded, [part])
            return
        self.metrics.batch.observe(len(rows))
        if len(batch) == 1:
            batch[0].outputs = outputs
            return
        start = 0
        for part in batch:
            end = start + len(part.rows)
            part.outputs = {name: values[start:end] for name, values in outputs.items()}
            start = end

    def _answer_aside(self, loaded: LoadedVariant, part: Part) -> None:
        """Answer a very large part on a thread, so that small requests need not wait for it."""

        def done(future: asyncio.Future[None]) -> None:
            future.result()
            if settled := _settled([part]):
                self._finish(settled)

        loop = asyncio.get_running_loop()
        loop.run_in_executor(self._pool, self._answer, loaded, [part]).add_done_callback(done)

    def _finish(self, queries: list[Query]) -> None:
        """Log what was answered, then answer."""
        answers: list[tuple[Query, Answer | LoopwrightError]] = []
        records: list[Record] = []
        for query in queries:
            self._waiting[query.is_large] -= len(query.rows)
            self.metrics.queued_rows -= len(query.rows)
            ids = record_query(query, records, self.metrics)
            answers.append((query, query.failure or _assemble(query, ids)))
        if records and not self._append(records):
            for _, answer in answers:
                if isinstance(answer, Answer):
                    answer.ids = [""] * len(answer.ids)
        for query, answer in answers:
            query.reply(answer)
            if isinstance(answer, Answer):
                self._shadows.offer(answer)

    def _append(self, records: list[Record]) -> bool:
        try:
            self._log.append(records)
        except (LoopwrightError, OverflowError, TypeError):
            # Serving goes on without the log (DESIGN §6, never in the way): such answers carry no prediction id.
            self.metrics.unlogged += len(records)
            return False
        return True


def _parts(query: Query, endpoint: LoadedEndpoint) -> list[Part]:
    """The query's rows, by the variant that answers them."""
    if query.version or len(endpoint.live) == 1:
        loaded = endpoint.at_version(query.version) if query.version else endpoint.live[0]
        return [Part(query, endpoint, loaded, loaded.projection.project(query.rows), None)]
    keys = query.keys if query.keys is not None else [""] * len(query.rows)
    places: dict[LoadedVariant, list[int]] = {}
    for place, key in enumerate(keys):
        places.setdefault(endpoint.choose(key), []).append(place)
    if len(places) == 1:
        loaded = next(iter(places))
        return [Part(query, endpoint, loaded, loaded.projection.project(query.rows), None)]
    return [
        Part(query, endpoint, loaded, loaded.projection.project([query.rows[place] for place in chosen]), chosen)
        for loaded, chosen in places.items()
    ]


def _batches(parts: list[Part], most: int) -> Iterator[list[Part]]:
    """Parts in groups of at most `most` rows, or of one part; parts of large queries stay alone."""
    batch: list[Part] = []
    size = 0
    for part in parts:
        if batch and (size + len(part.rows) > most or part.query.is_large or batch[-1].query.is_large):
            yield batch
            batch, size = [], 0
        batch.append(part)
        size += len(part.rows)
    yield batch


def _settled(parts: list[Part]) -> list[Query]:
    """The queries of which these were the last parts."""
    settled = []
    for part in parts:
        query = part.query
        query.parts.append(part)
        if part.failure is not None:
            query.failure = part.failure
        query.waiting -= 1
        if not query.waiting:
            settled.append(query)
    return settled


def _assemble(query: Query, ids: list[str]) -> Answer:
    """The parts' answers in the order of the query's rows."""
    first = query.parts[0]
    count = len(query.rows)
    if len(query.parts) == 1:
        variant = first.loaded.variant
        return Answer(query, ids, [variant.name] * count, [variant.model] * count, first.outputs)
    variants, models = [""] * count, [""] * count
    outputs: dict[str, list[Any]] = {name: [None] * count for part in query.parts for name in part.outputs}
    for part in query.parts:
        for number, place in enumerate(part.places or ()):
            variants[place], models[place] = part.loaded.variant.name, part.loaded.variant.model
            for name, values in part.outputs.items():
                outputs[name][place] = values[number]
    return Answer(query, ids, variants, models, outputs)
