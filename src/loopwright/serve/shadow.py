"""Shadows: variants that answer the same rows unseen. They run after the answers are given and never delay them."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import msgspec

from loopwright.core import LoopwrightError, new_ids
from loopwright.serve.batch_record import BatchRecord
from loopwright.serve.loaded import LoadedVariant, predict
from loopwright.serve.metrics import Metrics
from loopwright.serve.parts import rows_for
from loopwright.serve.prediction_log import PredictionLog
from loopwright.serve.query import Answer, Batch, Part, Query
from loopwright.serve.recording import make_record


class Shadows:
    """Queries that shadows have yet to answer; at most `most_rows` rows, beyond which they are dropped and counted."""

    def __init__(self, log: PredictionLog, metrics: Metrics, most_rows: int) -> None:
        self._log, self._metrics, self._most_rows = log, metrics, most_rows
        self._waiting: deque[Answer] = deque()
        self._rows, self._is_busy = 0, False
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="loopwright-shadows")

    def offer(self, answer: Answer) -> None:
        """Have the endpoint's shadows answer too, when there is time."""
        if not answer.query.parts[0].endpoint.shadows or not any(answer.ids):
            return
        count = answer.query.count
        load = sum(part.load for part in answer.query.parts)
        if self._rows + load > self._most_rows:
            self._metrics.shadows_dropped += count
            return
        self._waiting.append(answer)
        self._rows += load
        self._start()

    def _start(self) -> None:
        if self._waiting and not self._is_busy:
            self._is_busy = True
            asyncio.get_running_loop().call_soon(self._next)

    def close(self) -> None:
        """End the thread of shadows that block."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _next(self) -> None:
        """Have one query answered; the event loop has its turn between two of them."""
        answer = self._waiting.popleft()
        loaded = answer.query.parts[0].endpoint.shadows
        if all(one.predictor.inline for one in loaded):
            self._keep(answer, [_answered(answer, one) for one in loaded])
            return

        def done(future: asyncio.Future[list[Part]]) -> None:
            self._keep(answer, future.result())

        work = asyncio.get_running_loop().run_in_executor(
            self._pool, lambda: [_answered(answer, one) for one in loaded]
        )
        work.add_done_callback(done)

    def _keep(self, answer: Answer, parts: list[Part]) -> None:
        """Log what the shadows said, and go on."""
        self._rows -= sum(part.load for part in answer.query.parts)
        self._is_busy = False
        self._start()
        records = [record for part in parts if (record := self._record(answer, part)) is not None]
        try:
            self._log.append(records)
        except LoopwrightError:  # a shadow never troubles serving (DESIGN §6); the loss is counted
            self._metrics.unlogged += sum(map(len, records))

    def _record(self, answer: Answer, part: Part) -> BatchRecord | None:
        spec, loaded = part.endpoint.spec, part.loaded
        outcome = "ok" if part.failure is None else "error"
        self._metrics.predictions[spec.name, loaded.variant.name, loaded.version, outcome] += len(answer.ids)
        assert part.batch is not None, "a shadow has answered, or failed to"
        own = [
            identifier if given else "" for identifier, given in zip(new_ids(len(answer.ids)), answer.ids, strict=True)
        ]
        record = make_record(part.batch, [(part, own)], time.monotonic_ns(), self._log.secret)
        shadow_of = bytes.fromhex("".join(answer.ids))
        return None if record is None else msgspec.structs.replace(record, shadow_of=shadow_of)


def _answered(answer: Answer, loaded: LoadedVariant) -> Part:
    """On whatever thread: the rows of an answered query as a shadow answers them."""
    given = answer.query
    query = Query(given.endpoint, given.rows, _nobody, keys=given.keys, event_times=given.event_times, own=given.own)
    query.received_at_us = given.received_at_us
    part = Part(query, given.parts[0].endpoint, loaded, given.rows, None)
    missing = [None] * len(loaded.predictor.signature.inputs)
    part.batch = Batch(1, [missing for _ in range(len(given.rows))])
    try:
        part.batch.rows = rows_for(given, loaded)
        part.batch.arrays = predict(loaded, part.batch.rows)
    except LoopwrightError as failure:
        part.failure = failure
    return part


def _nobody(answer: Answer | LoopwrightError) -> None:
    """Nobody waits for a shadow."""
