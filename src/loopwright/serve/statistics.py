"""What the runs of each model version took, in Triton's terms. Made for the hot path: a few additions per run.

https://github.com/triton-inference-server/server, `docs/protocol/extension_statistics.md`. A request's way has four
pieces: until its run begins (`queue`, which holds the reading of the request, too), making the run's input out of the
rows of all its requests (`compute_input`), the model (`compute_infer`), and the prediction log and the answers
(`compute_output`). As with Triton, each request of a run counts with the whole time of the run.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

import msgspec

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


class Times(msgspec.Struct, array_like=True):
    """How often, and nanoseconds in all: of the three pieces of a run."""

    count: int = 0
    input_ns: int = 0
    infer_ns: int = 0
    output_ns: int = 0

    def add(self, times: int, ran: Ran, output_ns: int) -> None:
        """Count a run."""
        self.count += times
        self.input_ns += times * (ran.merged_ns - ran.began_ns)
        self.infer_ns += times * (ran.ended_ns - ran.merged_ns)
        self.output_ns += times * output_ns

    def join(self, other: Times) -> None:
        """Count what another has counted."""
        self.count += other.count
        self.input_ns += other.input_ns
        self.infer_ns += other.infer_ns
        self.output_ns += other.output_ns

    def told(self) -> dict[str, Any]:
        """As Triton has it."""
        pieces = (
            ("compute_input", self.input_ns),
            ("compute_infer", self.infer_ns),
            ("compute_output", self.output_ns),
        )
        return {name: {"count": self.count, "ns": ns} for name, ns in pieces}


class VersionRuns(msgspec.Struct, array_like=True):
    """The runs of one version.

    Attributes:
        rows: how many it has answered, those of shadows among them.
        last_ms: when the last run was, in milliseconds since 1970.
        by_rows: the runs by their size.
    """

    runs: int = 0
    rows: int = 0
    success_ns: int = 0
    queue_ns: int = 0
    failed: int = 0
    failed_ns: int = 0
    last_ms: int = 0
    times: Times = msgspec.field(default_factory=Times)
    by_rows: dict[int, Times] = msgspec.field(default_factory=lambda: defaultdict(Times))

    def join(self, other: VersionRuns) -> None:
        """Count what another process has counted."""
        for name in ("runs", "rows", "success_ns", "queue_ns", "failed", "failed_ns"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.last_ms = max(self.last_ms, other.last_ms)
        self.times.join(other.times)
        for rows, times in other.by_rows.items():
            self.by_rows[rows].join(times)

    def told(self) -> dict[str, Any]:
        """As Triton's `ModelStatistics` has it, without the name and the version."""
        count = self.times.count
        none = {"count": 0, "ns": 0}
        return {
            "inference_count": self.rows,
            "last_inference": self.last_ms,
            "execution_count": self.runs,
            "inference_stats": {
                "success": {"count": count, "ns": self.success_ns},
                "fail": {"count": self.failed, "ns": self.failed_ns},
                "queue": {"count": count, "ns": self.queue_ns},
                **self.times.told(),
                "cache_hit": none,
                "cache_miss": none,
            },
            "batch_stats": [{"batch_size": rows, **times.told()} for rows, times in sorted(self.by_rows.items())],
        }


Runs = dict[tuple[str, str], VersionRuns]
"""By endpoint and version."""


def write_runs(runs: Runs) -> str:
    """Runs in one line, for other processes."""
    return msgspec.json.encode([(*key, found) for key, found in runs.items()]).decode()


def read_runs(line: str) -> Runs:
    """What `write_runs` wrote; none where it is damaged."""
    try:
        found = msgspec.json.decode(line, type=list[tuple[str, str, VersionRuns]])
    except msgspec.MsgspecError:
        return {}
    return {(endpoint, version): runs for endpoint, version, runs in found}


def join_runs(several: Iterable[Runs]) -> Runs:
    """The runs of several processes together."""
    found: Runs = defaultdict(VersionRuns)
    for runs in several:
        for key, mine in runs.items():
            found[key].join(mine)
    return found


class RunStatistics:
    """The runs of all versions since the process started. Used by the event loop, but for `ran`, which takes a run from
    any thread."""

    def __init__(self) -> None:
        self.versions: Runs = defaultdict(VersionRuns)
        self.of_all: Callable[[], Awaitable[Runs]] | None = None  # those of all workers, where there are others
        self._fresh: list[Ran] = []
        self.ran = self._fresh.append

    def answered(self) -> None:
        """The answers of the runs of late have been given."""
        now_ns = time.monotonic_ns()
        while self._fresh:
            ran = self._fresh.pop()
            mine = self.versions[ran.endpoint, ran.version]
            requests, output_ns = ran.requests, now_ns - ran.ended_ns
            mine.runs += 1
            mine.success_ns += requests * now_ns - ran.arrived_ns
            mine.queue_ns += requests * ran.began_ns - ran.arrived_ns
            mine.times.add(requests, ran, output_ns)
            mine.by_rows[_size(ran.rows)].add(1, ran, output_ns)
            mine.last_ms = time.time_ns() // 1_000_000

    def failed(self, endpoint: str, version: str, started_ns: int) -> None:
        """A request that this version should have answered was refused, or the model failed."""
        mine = self.versions[endpoint, version]
        mine.failed += 1
        mine.failed_ns += time.monotonic_ns() - started_ns


def _size(rows: int) -> int:
    """The size under which a run is told: its rows, beyond 64 the next power of two."""
    return rows if rows <= _EXACT_ROWS else 1 << (rows - 1).bit_length()
