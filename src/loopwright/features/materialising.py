"""Bring the newest rows of a view to the online store: only what is new, each time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from loopwright.core import Conflict, Scope, new_id
from loopwright.features.computing import feature_rows, seen_between, transformed
from loopwright.features.definitions import FeatureView
from loopwright.features.encoding import decode_rows, encode_keys, encode_rows, online_place
from loopwright.features.joining import MAX_ROWS
from loopwright.features.model import MaterialiseReport
from loopwright.features.registry import FeatureRegistry, State
from loopwright.features.sources import SourceRows
from loopwright.features.timeline import SEEN, TRUE, latest, timeline

if TYPE_CHECKING:
    import polars as pl
    from sqlalchemy import Connection

    from loopwright.data import DatasetService, DatasetVersion
    from loopwright.store import Stores


class _Plan(NamedTuple):
    """Which rows to look at, and whether these are only the new ones."""

    rows: pl.LazyFrame
    incremental: bool


class _Done(NamedTuple):
    """What became of a view. `looked`: when the newest of its rows was seen, and whether there are later ones; None if
    there was nothing to look at."""

    state: State
    version: DatasetVersion
    looked: tuple[datetime | None, bool] | None
    report: MaterialiseReport


class Materialiser:
    """Materialises views of one project.

    Rows go online before the progress is noted, and the newest row of an entity wins online: so a run that was killed
    is simply done again, and two at once do no harm.
    """

    def __init__(self, stores: Stores, scope: Scope, datasets: DatasetService) -> None:
        self._stores, self._scope, self._datasets = stores, scope, datasets
        self._registry = FeatureRegistry(stores, scope)

    def run(
        self, states: Sequence[State], until: datetime | None, since: datetime | None = None
    ) -> tuple[MaterialiseReport, ...]:
        """Materialise views, whose progress is noted together.

        Args:
            until: only rows that were seen by then; by default now.
            since: look at all rows seen since then again, whatever was done before.

        Raises:
            Conflict: one is a request view, or was applied anew meanwhile.
            NotFound: a dataset has no version yet.
        """
        views = [_batch(state) for state in states]
        sources, end = SourceRows(self._datasets, views), until or self._stores.clock.now()
        done = [self._bring(state, view, sources, end, since) for state, view in zip(states, views, strict=True)]
        # Progress that is not noted is only found again: the rows are online by now.
        with self._stores.db.begin() as tx:
            for each in done:
                if each.looked:
                    self._note(tx, each)
        return tuple(each.report for each in done)

    def _bring(
        self, state: State, view: FeatureView, sources: SourceRows, end: datetime, since: datetime | None
    ) -> _Done:
        """Put the rows of one view online."""
        started = time.perf_counter()
        version = sources.version(view.source)
        if since is None and not state.held and state.version == version.version:
            return _Done(state, version, None, _nothing_new(state, version, end, time.perf_counter() - started))
        plan = _plan(view, state, version, sources, since)
        candidates = _held_in_memory(seen_between(plan.rows, since, None))
        seen, total = _bounds(candidates, end)
        rows = newest(seen_between(candidates, None, end), view)
        self._write(state, view, rows)
        report = MaterialiseReport(
            view=view.name,
            ref=state.ref,
            dataset=version.ref,
            since=since or (state.until if plan.incremental else None),
            until=end,
            rows=total,
            keys=rows.height,
            incremental=plan.incremental,
            seconds=time.perf_counter() - started,
        )
        return _Done(state, version, seen, report)

    def _write(self, state: State, view: FeatureView, rows: pl.DataFrame) -> None:
        types = {name: rows.schema[name] for name in (*view.keys, *view.features)}
        self._registry.keep_types(state, types)
        if rows.height:
            place = online_place(self._scope.project, state.view.name, state.digest)
            found = self._stores.online.read(place, encode_keys(rows, view.keys))
            settled = settle_ties(rows, found, view)
            self._stores.online.write(place, encode_rows(settled, view.keys, list(view.features)))

    def _note(self, tx: Connection, done: _Done) -> None:
        state, version, report = done.state, done.version, done.report
        newest_seen, held = done.looked or (None, False)
        if state.until is not None and report.until < state.until:
            return  # a look at the past: what was held back of the new rows must be found again
        # Not later than the newest row: rows that arrive afterwards with times before `until` are then still new.
        until = max((moment for moment in (state.until, newest_seen) if moment is not None), default=None)
        if not self._registry.advance(tx, state, until, version.version if until else None, held):
            raise Conflict(f"feature view {report.view!r} was applied anew meanwhile", next_step="materialise it again")
        self._tell(tx, report)

    def _tell(self, tx: Connection, report: MaterialiseReport) -> None:
        stores, project = self._stores, self._scope.project
        made = f"materialisation:{new_id()}"
        attrs = {"view": report.ref, "until": report.until, "rows": report.rows}
        stores.lineage.node(tx, made, attrs=attrs, project=project)
        # The view itself is a definition: it comes from no version of a dataset, what was put online does.
        stores.lineage.edge(tx, report.ref, made, "definition", project=project)
        stores.lineage.edge(tx, report.dataset, made, "source", project=project)
        evidence = {
            "dataset": report.dataset,
            "rows": report.rows,
            "keys": report.keys,
            "since": report.since,
            "until": report.until,
            "incremental": report.incremental,
        }
        stores.events.append(tx, "feature_view.materialised", report.ref, self._scope, evidence)


def _batch(state: State) -> FeatureView:
    if not isinstance(state.view, FeatureView):
        raise Conflict(f"{state.view.name!r} is computed from requests; there is nothing to materialise")
    return state.view


def _plan(
    view: FeatureView, state: State, version: DatasetVersion, sources: SourceRows, since: datetime | None
) -> _Plan:
    if since is None and state.until is not None and state.version is not None:
        added = sources.added(version, state.version)
        if added is not None and view.transform is None:
            return _Plan(_with_held(view, state, version, sources, feature_rows(view, added)), True)
        behind = _behind(view, state, version, sources, added) if added is not None else None
        if behind is not None:
            return behind
    return _Plan(feature_rows(view, transformed(view, sources.scan(version.ref))), False)


def _with_held(
    view: FeatureView, state: State, version: DatasetVersion, sources: SourceRows, added: pl.LazyFrame
) -> pl.LazyFrame:
    """The added rows, and those of before that were seen only after the last time."""
    import polars as pl

    if not state.held or state.version is None:
        return added
    before = sources.scan(f"{version.name}@{state.version}")
    return pl.concat([added, seen_between(feature_rows(view, before), state.until, None)])


def _behind(
    view: FeatureView, state: State, version: DatasetVersion, sources: SourceRows, added: pl.LazyFrame
) -> _Plan | None:
    """What the transform makes of the rows since the last time, with as much before them as it looks back on."""
    import polars as pl

    dtype = added.collect_schema().get(view.source_timestamp)
    if view.lookback is None or state.until is None or state.version is None or not isinstance(dtype, pl.Datetime):
        return None
    oldest = sources.oldest_added(version, state.version, view.source_timestamp)
    edge = state.until if oldest is None else min(state.until, _aware(oldest, state.until))
    start = edge - view.lookback
    recent = sources.recent(version, view.source_timestamp, start if dtype.time_zone else start.replace(tzinfo=None))
    rows = feature_rows(view, transformed(view, recent))
    return _Plan(rows.filter((pl.col(TRUE) >= edge) | (pl.col(SEEN) > state.until)), True)


def _nothing_new(state: State, version: DatasetVersion, end: datetime, seconds: float) -> MaterialiseReport:
    return MaterialiseReport(state.view.name, state.ref, version.ref, state.until, end, 0, 0, True, seconds)


def _held_in_memory(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The rows, computed once if they are few enough to keep."""
    some = rows.head(MAX_ROWS + 1).collect(engine="streaming")
    return some.lazy() if some.height <= MAX_ROWS else rows


def _bounds(rows: pl.LazyFrame, end: datetime) -> tuple[tuple[datetime | None, bool], int]:
    """When the newest of the rows up to `end` was seen, whether there are later ones, and how many there are."""
    import polars as pl

    seen = pl.col(SEEN)
    row = rows.select(newest=seen.filter(seen <= end).max(), held=(seen > end).any(), rows=(seen <= end).sum()).collect(
        engine="streaming"
    )
    return (row["newest"][0], bool(row["held"][0])), int(row["rows"][0])


def newest(rows: pl.LazyFrame, view: FeatureView, max_rows: int = MAX_ROWS) -> pl.DataFrame:
    """The row of each entity that counts at the end; at most `max_rows` rows, or one per entity, are in memory."""
    import polars as pl

    keys, features = list(view.keys), list(view.features)
    some = rows.head(max_rows + 1).collect(engine="streaming")
    if some.height > max_rows:
        times = rows.group_by(keys).agg(pl.col(TRUE).max())
        some = rows.join(times, on=[*keys, TRUE], how="semi").collect(engine="streaming")
    return latest(timeline(some, keys, features), keys)


def settle_ties(rows: pl.DataFrame, found: Sequence[tuple[datetime, bytes] | None], view: FeatureView) -> pl.DataFrame:
    """The rows, but where the row that is online has the same time: the one of both that a join would take.

    Args:
        found: the online rows of the same entities, in the same order.
    """
    import polars as pl

    times = rows.get_column(TRUE).to_list()
    tied = [place for place, row in enumerate(found) if row is not None and row[0] == times[place]]
    if not tied:
        return rows
    keys, features = list(view.keys), list(view.features)
    kept = [row for place in tied if (row := found[place]) is not None]
    there = decode_rows(kept, {name: rows.schema[name] for name in features})
    there = pl.concat([rows[tied].select(keys), there], how="horizontal").select(rows.columns)
    return latest(timeline(pl.concat([rows, there]), keys, features), keys)


def _aware(moment: datetime, like: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=like.tzinfo)
