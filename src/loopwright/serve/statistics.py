"""What the runs of each model version took, in Triton's terms. Made for the hot path: a few additions per run.

https://github.com/triton-inference-server/server, `docs/protocol/extension_statistics.md`. A request's way has four
pieces: until its run begins (`queue`, which holds the reading of the request, too), making the run's input out of the
rows of all its requests (`compute_input`), the model (`compute_infer`), and the prediction log and the answers
(`compute_output`). As with Triton, each request of a run counts with the whole time of the run.
"""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any, NamedTuple

_EXACT_ROWS = 64


class Ran(NamedTuple):
    """One run of a model that went well. Times are on the monotonic clock, in nanoseconds.

    Attributes:
        requests, rows: how many it answered.
        arrived_ns: when the requests had arrived, added up.
        began_ns, merged_ns, ended_ns: when it began, when its input was ready, when the model had answered.
    """

    endpoint: str
    version: str
    requests: int
    rows: int
    arrived_ns: int
    began_ns: int
    merged_ns: int
    ended_ns: int


class _Times:
    """How often, and nanoseconds in all: of the three pieces of a run."""

    __slots__ = ("count", "infer_ns", "input_ns", "output_ns")

    def __init__(self) -> None:
        self.count = self.input_ns = self.infer_ns = self.output_ns = 0

    def add(self, times: int, ran: Ran, output_ns: int) -> None:
        self.count += times
        self.input_ns += times * (ran.merged_ns - ran.began_ns)
        self.infer_ns += times * (ran.ended_ns - ran.merged_ns)
        self.output_ns += times * output_ns

    def told(self) -> dict[str, Any]:
        pieces = (
            ("compute_input", self.input_ns),
            ("compute_infer", self.infer_ns),
            ("compute_output", self.output_ns),
        )
        return {name: {"count": self.count, "ns": ns} for name, ns in pieces}


class _Version:
    """The runs of one version."""

    __slots__ = ("by_rows", "failed", "failed_ns", "last_ms", "queue_ns", "runs", "success_ns", "times")

    def __init__(self) -> None:
        self.runs = self.success_ns = self.queue_ns = self.failed = self.failed_ns = self.last_ms = 0
        self.times = _Times()
        self.by_rows: dict[int, _Times] = defaultdict(_Times)


class RunStatistics:
    """The runs of all versions since the process started. Used by the event loop, but for `ran`, which takes a run from
    any thread."""

    def __init__(self) -> None:
        self._versions: dict[tuple[str, str], _Version] = defaultdict(_Version)
        self._fresh: list[Ran] = []
        self.ran = self._fresh.append

    def answered(self) -> None:
        """The answers of the runs of late have been given."""
        now_ns = time.monotonic_ns()
        while self._fresh:
            ran = self._fresh.pop()
            mine = self._versions[ran.endpoint, ran.version]
            requests, output_ns = ran.requests, now_ns - ran.ended_ns
            mine.runs += 1
            mine.success_ns += requests * now_ns - ran.arrived_ns
            mine.queue_ns += requests * ran.began_ns - ran.arrived_ns
            mine.times.add(requests, ran, output_ns)
            mine.by_rows[_size(ran.rows)].add(1, ran, output_ns)
            mine.last_ms = time.time_ns() // 1_000_000

    def failed(self, endpoint: str, version: str, started_ns: int) -> None:
        """A request that this version should have answered was refused, or the model failed."""
        mine = self._versions[endpoint, version]
        mine.failed += 1
        mine.failed_ns += time.monotonic_ns() - started_ns

    def of(self, endpoint: str, version: str) -> dict[str, Any]:
        """What is told of one version, as Triton's `ModelStatistics` has it, without its name and its rows."""
        mine = self._versions.get((endpoint, version)) or _Version()
        count = mine.times.count
        none = {"count": 0, "ns": 0}
        return {
            "last_inference": mine.last_ms,
            "execution_count": mine.runs,
            "inference_stats": {
                "success": {"count": count, "ns": mine.success_ns},
                "fail": {"count": mine.failed, "ns": mine.failed_ns},
                "queue": {"count": count, "ns": mine.queue_ns},
                **mine.times.told(),
                "cache_hit": none,
                "cache_miss": none,
            },
            "batch_stats": [{"batch_size": rows, **times.told()} for rows, times in sorted(mine.by_rows.items())],
        }


def _size(rows: int) -> int:
    """The size under which a run is told: its rows, beyond 64 the next power of two."""
    return rows if rows <= _EXACT_ROWS else 1 << (rows - 1).bit_length()
