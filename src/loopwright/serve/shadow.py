"""Shadows: variants that answer the same rows unseen. They run after the answers are given and never delay them."""

from __future__ import annotations

import asyncio
import time
from collections import deque

from loopwright.core import LoopwrightError, new_id
from loopwright.serve.loaded import LoadedVariant, predict
from loopwright.serve.metrics import Metrics
from loopwright.serve.model import PredictionStatus
from loopwright.serve.prediction_log import PredictionLog, Record
from loopwright.serve.query import Answer, Query


class Shadows:
    """Queries that shadows have yet to answer; at most `most_rows` rows, beyond which they are dropped and counted."""

    def __init__(self, log: PredictionLog, metrics: Metrics, most_rows: int) -> None:
        self._log, self._metrics, self._most_rows = log, metrics, most_rows
        self._waiting: deque[Answer] = deque()
        self._rows = 0

    def offer(self, answer: Answer) -> None:
        """Have the endpoint's shadows answer too, when there is time."""
        if not answer.query.parts[0].endpoint.shadows or not any(answer.ids):
            return
        count = len(answer.query.rows)
        if self._rows + count > self._most_rows:
            self._metrics.shadows_dropped += count
            return
        self._waiting.append(answer)
        self._rows += count
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        """Answer one query; the event loop has its turn between two of them."""
        answer = self._waiting.popleft()
        self._rows -= len(answer.query.rows)
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._next)
        records: list[Record] = []
        for loaded in answer.query.parts[0].endpoint.shadows:
            self._answer(answer, loaded, records)
        try:
            self._log.append(records)
        except LoopwrightError:  # a shadow never troubles serving (DESIGN §6); the loss is counted
            self._metrics.unlogged += len(records)

    def _answer(self, answer: Answer, loaded: LoadedVariant, records: list[Record]) -> None:
        started_ns = time.monotonic_ns()
        query = answer.query
        status, error = PredictionStatus.OK, ""
        rows = query.rows
        try:
            rows = loaded.projection.project(rows)
            outputs = predict(loaded, rows)
        except LoopwrightError as failure:
            status, error, outputs = PredictionStatus.ERROR, failure.message, {}
        spec, outcome = query.parts[0].endpoint.spec, "ok" if not error else "error"
        self._metrics.predictions[spec.name, loaded.variant.name, loaded.version, outcome] += len(rows)
        latency_us = (time.monotonic_ns() - started_ns) // 1000
        for place, answered in enumerate(answer.ids):
            if answered:
                row = rows[place] if not error else []
                record = _record(query, loaded, place, row, latency_us, status, error, answered)
                record.outputs.update((name, values[place]) for name, values in outputs.items())
                records.append(record)


def _record(
    query: Query,
    loaded: LoadedVariant,
    place: int,
    row: list[object],
    latency_us: int,
    status: PredictionStatus,
    error: str,
    answered: str,
) -> Record:
    spec = query.parts[0].endpoint.spec
    return Record(
        new_id(),
        spec.name,
        loaded.variant.name,
        loaded.variant.model,
        query.received_at_us if query.event_times is None else query.event_times[place],
        query.received_at_us,
        "" if query.keys is None else query.keys[place],
        loaded.columns_key,
        row,
        {},
        latency_us,
        status,
        answered,
        spec.rollout,
        error,
    )
