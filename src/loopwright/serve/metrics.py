"""What the inference process counts, as Prometheus reads it. Made for the hot path: a count is one addition.

Labels come from the published state alone (endpoints, variants, versions), never from requests, so they are bounded.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from loopwright.serve.statistics import Runs, RunStatistics, VersionRuns, join_runs

LATENCY_BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
BATCH_BUCKETS_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
_PREFIX = "loopwright_"
Figure = tuple[str, str, str, float]
"""A sample: its name, with labels if it has any; its kind and meaning; its value now."""


class Histogram:
    """Counts per bucket, the sum and the number of observations."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def observe_all(self, values: Sequence[float]) -> None:
        """Count many values that are mostly alike."""
        first, last = bisect_left(self.bounds, min(values)), bisect_left(self.bounds, max(values))
        if first == last:
            self.counts[first] += len(values)
        else:
            for value in values:
                self.counts[bisect_left(self.bounds, value)] += 1
        self.total += sum(values)

    def lines(self, name: str, labels: str) -> Iterator[str]:
        """The exposition of the three series."""
        comma = "," if labels else ""
        running = 0
        for bound, count in zip((*self.bounds, "+Inf"), self.counts, strict=True):
            running += count
            yield f'{name}_bucket{{{labels}{comma}le="{bound}"}} {running}'
        braces = f"{{{labels}}}" if labels else ""
        yield f"{name}_sum{braces} {self.total:.9g}"
        yield f"{name}_count{braces} {running}"


class Metrics:
    """The counters of one process. Used by the event loop alone."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, int], int] = defaultdict(int)
        self.predictions: dict[tuple[str, str, str, str], int] = defaultdict(int)
        self.latency: dict[str, Histogram] = defaultdict(lambda: Histogram(LATENCY_BUCKETS_S))
        self.batch = Histogram(BATCH_BUCKETS_ROWS)
        self.runs = RunStatistics()
        self.queued_rows = 0
        self.shed = 0
        self.unlogged = 0
        self.shadows_dropped = 0
        self.connections = 0
        self.revision = 0
        self.load_failures = 0
        self.started_at = time.time()
        self.more: list[Callable[[], list[Figure]]] = []

    def version_runs(self) -> Runs:
        """What each version has answered in this process; rows are those of shadows, too, which have no runs here."""
        rows: Runs = {}
        for (endpoint, _, version, outcome), count in self.predictions.items():
            if outcome == "ok":
                rows.setdefault((endpoint, version), VersionRuns()).rows += count
        return join_runs([self.runs.versions, rows])

    async def all_runs(self) -> Runs:
        """What each version has answered in all workers of this address, those that have ended included."""
        return await self.runs.of_all() if self.runs.of_all is not None else self.version_runs()

    def render(self) -> str:
        """All of it in Prometheus' text format."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        yield from _head("requests_total", "counter", "Requests to infer, by endpoint and HTTP status.")
        for (endpoint, status), count in sorted(self.requests.items()):
            yield f'{_PREFIX}requests_total{{endpoint="{endpoint}",status="{status}"}} {count}'
        yield from _head("predictions_total", "counter", "Rows answered, by endpoint, variant, version and outcome.")
        for (endpoint, variant, version, outcome), count in sorted(self.predictions.items()):
            labels = f'endpoint="{endpoint}",variant="{variant}",version="{version}",outcome="{outcome}"'
            yield f"{_PREFIX}predictions_total{{{labels}}} {count}"
        yield from _head("request_seconds", "histogram", "From a request's arrival to its answer.")
        for endpoint, histogram in sorted(self.latency.items()):
            yield from histogram.lines(f"{_PREFIX}request_seconds", f'endpoint="{endpoint}"')
        yield from _head("batch_rows", "histogram", "Rows that a model answered at once.")
        yield from self.batch.lines(f"{_PREFIX}batch_rows", "")
        told = ""
        for name, kind, text, value in self._singles():
            base = name.partition("{")[0]
            if base != told:  # samples of one metric with several labels stand together
                yield from _head(base, kind, text)
            told = base
            yield f"{_PREFIX}{name} {value}"
        yield "# HELP process_resident_memory_bytes Resident memory size in bytes."
        yield "# TYPE process_resident_memory_bytes gauge"
        yield f"process_resident_memory_bytes {resident_bytes()}"

    def _singles(self) -> list[Figure]:
        return [
            *(figure for others in self.more for figure in others()),
            ("queued_rows", "gauge", "Rows that wait for a model.", self.queued_rows),
            ("connections", "gauge", "Open connections.", self.connections),
            ("shed_total", "counter", "Requests refused because too many rows waited.", self.shed),
            ("predictions_unlogged_total", "counter", "Answers that the log could not take.", self.unlogged),
            ("shadow_rows_dropped_total", "counter", "Rows that shadows had no time for.", self.shadows_dropped),
            ("serving_revision", "gauge", "The revision of the state that is served.", self.revision),
            ("state_load_failures_total", "counter", "States, or parts, that could not be loaded.", self.load_failures),
            ("start_time_seconds", "gauge", "When the process started, in seconds since 1970.", self.started_at),
        ]


def _head(name: str, kind: str, text: str) -> Iterator[str]:
    yield f"# HELP {_PREFIX}{name} {text}"
    yield f"# TYPE {_PREFIX}{name} {kind}"


def resident_bytes() -> int:
    """How much memory this process has in RAM."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except FileNotFoundError:  # not Linux
        import psutil

        return int(psutil.Process().memory_info().rss)
    return pages * os.sysconf("SC_PAGE_SIZE")
