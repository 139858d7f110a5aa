"""Who is taken when more arrives than can be answered: whoever would wait for a short time, as others have taken.

A burst may queue: whether it ends shows later. Once waits have been long for a while, somebody is refused, and from
then on only as much is taken as is answered at once, until nobody was refused for a while: those who are taken wait
hardly longer than without overload, and the others know at once. Requests that cost little more to answer than to
refuse are answered. This is the adaptive bound of a queue that B. Maurer describes ("Fail at Scale", ACM Queue 13(8),
2015) after K. Nichols and V. Jacobson ("Controlling Queue Delay", ACM Queue 10(5), 2012), with the wait that is ahead
in place of the one that is over.
"""

from __future__ import annotations

import math

import msgspec

from loopwright.core import Unavailable

_KEPT = 0.95  # of what is known, with each further run: some twenty runs count
_DRIFT = 1.001  # of the fastest run, with each further one: what was fast once does not count for ever
_NEVER = -(1 << 62)
_ALL = 1 << 60


class Patience(msgspec.Struct, frozen=True):
    """How long requests may wait. A run is one of a model, with its answers and their record.

    Attributes:
        turn_requests, turn_s: a wait is long behind so many requests, if it takes so long;
        patience_s, patient_runs: or beyond this however few there are, as a time and as a number of the fastest runs,
            whichever is longer.
        burst_s: when all waits have been long for this time, requests are refused.
        worth_s: those that take less are answered all the same: to refuse one costs half as much at least.
        overload_s, overload_runs: from then on, a wait beyond which they are, as a time or as a number of runs.
        reading_s: and while a turn has read for longer than this: then more waits in the system than can be seen, and
            whoever takes as much as he answers leaves it there.
        calm_s: for so long after the last refusal that holds.
    """

    turn_requests: int = 256
    turn_s: float = 0.005
    patience_s: float = 0.5
    patient_runs: int = 32
    burst_s: float = 0.02
    worth_s: float = 20e-6
    overload_s: float = 0.001
    overload_runs: int = 2
    reading_s: float = 0.0005
    calm_s: float = 0.1


class Limits(Patience, frozen=True):
    """What bounds the data plane's memory and the length of its turns.

    A row whose inputs have a shape counts as one for each 256 values of them, or part of these.

    Attributes:
        queue_rows: how many rows may wait; a request that would exceed it is refused.
        request_rows: how many rows one request may have.
        batch_rows: how many rows a model answers at once.
        inline_rows: a request with more is large: it is answered on a thread, so that small ones need not wait.
        large_rows: how many rows of large requests may wait; they have a queue of their own.
        lane_rows: how many rows may wait for a model that has a lane of its own.
        wait_s: how long a request may wait for a lane when it says nothing of it.
        shed_s: while requests are refused, some are answered between refusals when none was for so long.
        slice_s: how long a turn may take to answer while requests are refused, which are to know at once; or as long
            as they may wait then, where the runs of a model take longer.
        slice_requests: how many requests to a model are answered before those that have come meanwhile are looked at,
            be it to refuse them.
        gathered_requests: the same for requests that a front has gathered into one query, which cost less each.
    """

    queue_rows: int = 16_384
    request_rows: int = 65_536
    batch_rows: int = 2_048
    inline_rows: int = 4_096
    large_rows: int = 131_072
    lane_rows: int = 16_384
    wait_s: float = 30.0
    shed_s: float = 0.00075
    slice_s: float = 0.0005
    slice_requests: int = 64
    gathered_requests: int = 1_024


class Bounds(msgspec.Struct, frozen=True):
    """What may wait, as rows: with many requests, with few, while requests are refused, and late in such a turn."""

    many: int
    few: int
    overload: int
    late: int


class Pace:
    """How fast rows are answered of late, and when a request was refused. Not thread-safe."""

    __slots__ = ("_fastest_s", "_least_s", "_long_since_ns", "_refused_ns", "_requests", "_rows", "_run_s", "_took_s")

    def __init__(self, least_s: float = 0.0) -> None:
        """Args:
        least_s: a wait that nobody is refused for, since it takes as much to hand requests over.
        """
        self._least_s = least_s
        self._rows = self._requests = self._took_s = self._run_s = 0.0
        self._fastest_s = math.inf
        self._refused_ns, self._long_since_ns = _NEVER, 0

    def answered(self, rows: int, requests: int, took_s: float, run_s: float) -> None:
        """Note a run.

        Args:
            took_s: with what came between the last one and this one, where rows were waiting meanwhile.
            run_s: without that.
        """
        self._rows = self._rows * _KEPT + rows
        self._requests = self._requests * _KEPT + requests
        self._took_s = self._took_s * _KEPT + took_s
        self._run_s = self._run_s * _KEPT + run_s
        self._fastest_s = min(run_s, self._fastest_s * _DRIFT)

    def refused(self, now_ns: int) -> None:
        """Note that a request was refused, on the monotonic clock."""
        self._refused_ns = now_ns

    def wait_s(self, rows: int) -> float:
        """How long it will take to answer that many."""
        return rows * self._took_s / self._rows if self._rows else 0.0

    def is_overloaded(self, patience: Patience, now_ns: int) -> bool:
        """Whether requests have been refused of late."""
        return now_ns - self._refused_ns < patience.calm_s * 1e9

    def is_full(self, patience: Patience, rows: int, requests: int, now_ns: int, read_ns: int = 0) -> bool:
        """Whether a further request is to be refused; to be asked of each, and `refused` to be told if it is.

        Args:
            rows, requests: that wait.
            now_ns: on the monotonic clock.
            read_ns: for how long this turn has read requests.
        """
        if self._are_cheap(patience):
            return False
        wait_s = self.wait_s(rows)
        is_late = read_ns > patience.reading_s * 1e9
        if rows and self.is_overloaded(patience, now_ns) and (is_late or wait_s > self._most_s(patience, True)):
            return True
        is_long = requests >= patience.turn_requests and wait_s > patience.turn_s
        if not is_long and (not rows or wait_s <= self._most_s(patience, False)):
            self._long_since_ns = 0
            return False
        self._long_since_ns = self._long_since_ns or now_ns
        return now_ns - self._long_since_ns >= patience.burst_s * 1e9

    def has_time(self, limits: Limits, began_ns: int, now_ns: int) -> bool:
        """Whether a turn that has answered some of what waits while requests are refused may answer some more.

        How fast that is shows only when it is done: at the beginning it may be far faster than what was seen before.
        """
        return self.is_overloaded(limits, now_ns) and now_ns - began_ns < limits.slice_s * 0.5e9

    def bounds(self, patience: Patience) -> Bounds:
        """The same as numbers of rows, for who compares them himself."""
        if self._are_cheap(patience):
            return Bounds(_ALL, _ALL, _ALL, _ALL)
        return Bounds(
            max(0, self.rows_in(patience.turn_s)),
            max(1, self.rows_in(self._most_s(patience, False))),
            max(1, self.rows_in(self._most_s(patience, True))),
            0,
        )

    def rows_in(self, seconds: float) -> int:
        """How many rows are answered in a time; very many where nothing is known."""
        rows = seconds * self._rows / self._took_s if self._took_s > 0 else _ALL if seconds > 0 else 0
        return int(min(rows, _ALL))

    def slice_rows(self, limits: Limits) -> int:
        """How many rows a turn answers while requests are refused.

        Where a run takes as long for one row as for many, further ones are what makes it worth its time: so there are
        always more than in the fastest run, as long as more wait.
        """
        fastest_s = self._fastest_s if self._rows else 0.0
        seconds = max(limits.slice_s, limits.overload_runs * fastest_s)
        return round(min(seconds * self._rows / self._run_s, _ALL)) if self._run_s > 0 else _ALL

    def _are_cheap(self, patience: Patience) -> bool:
        return self._took_s < self._requests * patience.worth_s

    def _most_s(self, patience: Patience, is_overloaded: bool) -> float:
        fastest_s = self._fastest_s if self._rows else 0.0
        if is_overloaded:
            return max(patience.overload_s, patience.overload_runs * fastest_s, self._least_s)
        return max(patience.patience_s, patience.patient_runs * fastest_s)


def too_much() -> Unavailable:
    """Why a request is refused before it is parsed."""
    return Unavailable("more requests arrive than can be answered", next_step="try again in a second")
