"""What one can ask of a run's metrics: log them one by one or in bulk, read them whole, in pages, or as curves."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from loopwright.core import Invalid, Scope, operation
from loopwright.store import Stores
from loopwright.track.batches import Batch, check_texts, write_batches
from loopwright.track.columns import joined
from loopwright.track.curves import MAX_BUCKETS, NO_PARTS, curve_of, read_curve
from loopwright.track.histories import (
    MAX_STEP,
    MIN_STEP,
    find_sources,
    history_of,
    position_of,
    read_page,
    read_points,
)
from loopwright.track.metrics import prepare
from loopwright.track.model import Curve, MetricHistory, MetricPoint, Value
from loopwright.track.reading import any_run, any_runs
from loopwright.track.sampling import read_samples
from loopwright.track.together import read_wholes
from loopwright.track.values import to_micros

_MAX_RUNS = 1_000
_MAX_KEYS = 1_000
_NO_LIMIT = 1 << 48
_NO_POINTS = joined([])


class RunMetrics:
    """The operations on metrics of runs."""

    stores: Stores
    scope: Scope

    @operation("runs.log_metrics", permission="runs:write", effect="write")
    def log_metrics(self, run: str, metrics: dict[str, Value], step: int = 0, at: datetime | None = None) -> None:
        """Store one value of each of these metrics.

        Raises:
            NotFound: there is no such run.
            Conflict: the run is deleted.
            Invalid: a key, value or step cannot be stored; then none is.
        """
        self.log_batch(run, [MetricPoint(key, value, step, at) for key, value in metrics.items()])

    @operation("runs.log_points", permission="runs:write", effect="write")
    def log_points(self, run: str, points: list[MetricPoint]) -> None:
        """Store many points at once; a point that is there already is not stored twice.

        Raises:
            NotFound: there is no such run.
            Conflict: the run is deleted.
            Invalid: a key, value or step cannot be stored; then none is.
        """
        self.log_batch(run, points)

    @operation("runs.log_batch", permission="runs:write", effect="write")
    def log_batch(
        self,
        run: str,
        points: list[MetricPoint] | None = None,
        params: dict[str, str] | None = None,
        tags: dict[str, str] | None = None,
    ) -> None:
        """Store points, params and tags of a run in one transaction: all of them or, on an error, none.

        Raises:
            NotFound: there is no such run.
            Conflict: the run is deleted, or a param has another value already.
            Invalid: a key, value or step cannot be stored.
        """
        check_texts(params or {}, tags or {})
        prepared = prepare(points or (), to_micros(self.stores.clock.now()))
        batch = Batch(self.scope.project, run, prepared, params or {}, tags or {})
        with self.stores.db.begin() as tx:
            [refused] = write_batches(self.stores.db, tx, [batch])
            if refused is not None:
                raise refused

    @operation("runs.history", permission="runs:read")
    def history(
        self,
        run: str,
        key: str,
        first_step: int | None = None,
        last_step: int | None = None,
        limit: int | None = None,
        after: str = "",
    ) -> MetricHistory:
        """The points of one metric, by step, then time; empty if the run has no such metric.

        Args:
            first_step: leave out lower steps.
            last_step: leave out higher steps.
            limit: points on a page; by default all are given at once.
            after: `next` of the page before this one.

        Raises:
            NotFound: there is no such run.
            Invalid: the limit or `after` is malformed.
        """
        place = position_of(after)
        if limit is not None and limit < 1:
            raise Invalid(f"a page of {limit} points cannot be given", next_step="ask for at least 1")
        lowest, highest = _range(first_step, last_step)
        with self.stores.db.read() as connection:
            row = any_run(connection, self.scope.project, run)
            if limit is None and place is None:
                return self._whole(connection, row, key, lowest, highest)
            source = find_sources(self.stores.db, connection, row.seq, [key]).get(key)
            if source is None:
                return MetricHistory(row.id, key, [], [], [])
            page = read_page(connection, source, lowest, highest, min(limit or _NO_LIMIT, _NO_LIMIT), place)
            return history_of(row.id, key, *page)

    @operation("runs.histories", permission="runs:read")
    def histories(
        self, runs: list[str], key: str, first_step: int | None = None, last_step: int | None = None
    ) -> list[MetricHistory]:
        """The points of one metric in each of these runs, in their order.

        Raises:
            NotFound: one of the runs is not there.
            Invalid: there are more than 1,000 runs.
        """
        _bound("runs", runs, _MAX_RUNS)
        lowest, highest = _range(first_step, last_step)
        with self.stores.db.read() as connection:
            rows = any_runs(connection, self.scope.project, runs)
            found = read_wholes(self.stores.db, connection, [row.seq for row in rows], key, (lowest, highest))
            return [history_of(row.id, key, found.get(row.seq, _NO_POINTS)) for row in rows]

    def samples(
        self, runs: list[str], key: str, most: int, first_step: int | None = None, last_step: int | None = None
    ) -> list[MetricHistory]:
        """At most so many points of one metric in each of these runs, in their order, at even distances among the
        points of the run, with its first and last. No operation: it misses spikes, which `curve` does not.

        Raises:
            NotFound: one of the runs is not there.
            Invalid: there are more than 1,000 runs.
        """
        _bound("runs", runs, _MAX_RUNS)
        with self.stores.db.read() as connection:
            rows = any_runs(connection, self.scope.project, runs)
            numbers, span = [row.seq for row in rows], _range(first_step, last_step)
            found = read_samples(self.stores.db, connection, numbers, key, most, span)
        return [history_of(row.id, key, found.get(row.seq, _NO_POINTS)) for row in rows]

    @operation("runs.curve", permission="runs:read")
    def curve(
        self,
        run: str,
        keys: list[str],
        buckets: int = 1_000,
        first_step: int | None = None,
        last_step: int | None = None,
    ) -> list[Curve]:
        """Metrics to draw: at most so many buckets of steps each, with lowest, highest and last value.

        No spike is missed, and the time hardly grows with the run's length. Where there are no more points than
        buckets, each point has its own.

        Args:
            keys: one curve for each, in this order; empty for a metric that the run has not.
            first_step: leave out lower steps, to look closer.
            last_step: leave out higher steps.

        Raises:
            NotFound: there is no such run.
            Invalid: more than 10,000 buckets or 1,000 keys.
        """
        if not 1 <= buckets <= MAX_BUCKETS:
            raise Invalid(f"{buckets} buckets cannot be given", next_step=f"ask for 1 to {MAX_BUCKETS:,}")
        _bound("metrics", keys, _MAX_KEYS)
        lowest, highest = _range(first_step, last_step)
        with self.stores.db.read() as connection:
            row = any_run(connection, self.scope.project, run)
            sources = find_sources(self.stores.db, connection, row.seq, keys)
            parts = {key: read_curve(connection, source, buckets, lowest, highest) for key, source in sources.items()}
        return [curve_of(row.id, key, parts.get(key, NO_PARTS)) for key in keys]

    def _whole(self, connection: Connection, row: Row[Any], key: str, lowest: int, highest: int) -> MetricHistory:
        source = find_sources(self.stores.db, connection, row.seq, [key]).get(key)
        if source is None:
            return MetricHistory(row.id, key, [], [], [])
        return history_of(row.id, key, read_points(connection, source, lowest, highest))


def _range(first_step: int | None, last_step: int | None) -> tuple[int, int]:
    lowest = MIN_STEP if first_step is None else max(first_step, MIN_STEP)
    highest = MAX_STEP if last_step is None else min(last_step, MAX_STEP)
    return (lowest, highest) if lowest <= highest else (0, -1)


def _bound(noun: str, given: Sequence[str], most: int) -> None:
    if len(given) > most:
        raise Invalid(f"{len(given):,} {noun} are too many for one call", next_step=f"ask for at most {most:,}")
