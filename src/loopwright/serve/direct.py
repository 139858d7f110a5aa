"""The direct way: requests that a front has gathered in a turn, answered by one run without an object for each step.

It is for an endpoint of which one model in this process answers all rows and the log keeps all of them, as nearly all
endpoints are. What it cannot do, and each error of a model, is left to the usual way (`DataPlane.submit`), which does
the same with queries, parts and batches. Counts and records are the same on both.
"""

from __future__ import annotations

import time

from loopwright.serve.batch_record import BatchRecord, matrix_record
from loopwright.serve.block import Array, Block
from loopwright.serve.ids import Ids
from loopwright.serve.loaded import LoadedEndpoint, predict
from loopwright.serve.metrics import Metrics
from loopwright.serve.query import Gathered
from loopwright.serve.recording import by_of
from loopwright.serve.statistics import Ran


class Direct:
    """Runs the only model of an endpoint. Used by the event loop alone."""

    def __init__(self, endpoint: LoadedEndpoint, metrics: Metrics) -> None:
        loaded = endpoint.live[0]
        self._loaded, self._metrics, self.endpoint = loaded, metrics, endpoint.spec.name
        self._by, self._weight = by_of(endpoint, loaded), endpoint.intake.load
        self._key = endpoint.spec.name, loaded.variant.name, loaded.version, "ok"

    @staticmethod
    def suits(endpoint: LoadedEndpoint) -> bool:
        """Whether an endpoint can be answered so."""
        if not endpoint.inline or len(endpoint.live) != 1 or endpoint.shadows or endpoint.intake.shaped:
            return False
        loaded, log = endpoint.live[0], endpoint.spec.log
        return loaded.projection.is_identity and loaded.redaction is None and log.sample >= 1.0

    def load(self, rows: int) -> int:
        """What so many rows count where rows are bounded."""
        return rows * self._weight

    def run(self, block: Block, gathered: Gathered) -> dict[str, Array] | None:
        """The model's outputs; None where it fails, of which nothing is counted."""
        began_ns = time.monotonic_ns()
        try:
            arrays = predict(self._loaded, block)
        except Exception:  # noqa: BLE001  (the usual way asks again, and tells of it)
            return None
        ended_ns, count, requests = time.monotonic_ns(), block.count, len(gathered.counts)
        arrived_ns = sum(gathered.started_ns)
        runs = self._metrics.runs
        runs.ran(Ran(self.endpoint, self._key[2], requests, count, arrived_ns, began_ns, began_ns, ended_ns))
        self._metrics.batch.observe(count)
        self._metrics.predictions[self._key] += count
        return arrays

    def records(self, ids: Ids, block: Block, arrays: dict[str, Array], gathered: Gathered) -> list[BatchRecord]:
        """The record of a run."""
        now_ns, started = time.monotonic_ns(), gathered.started_ns
        now_us = time.time_ns() // 1000
        latency_us = [(now_ns - one) // 1000 for one in started]
        received = [now_us - one for one in latency_us]
        return [matrix_record(self._by, ids.raw, block, arrays, gathered.counts, received, latency_us)]
