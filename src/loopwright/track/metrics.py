"""Metric points on their way in: checked, grouped by series, stored as blocks where they are many, as rows where few.

The same point (key, step, time, value) is there once however often it is delivered. The last value of a series is
that of its highest step; among equal steps the latest time counts, then the higher value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from sqlalchemy import Connection

from loopwright.store import Database
from loopwright.track import bulk
from loopwright.track.bulk import Place, Series
from loopwright.track.columns import Columns, from_rows, in_order, order_bits, to_rows
from loopwright.track.compaction import TAIL_LIMIT, add_block, take_tail
from loopwright.track.model import MetricPoint
from loopwright.track.values import check_key, check_step, check_value, to_bits, to_micros

BLOCK_FROM = 128
StoredPoint: TypeAlias = tuple[int, int, int]
"""A point as it is stored: step, Unix microseconds, bits of the value. The greatest of a series is its last."""
Points: TypeAlias = list[StoredPoint] | Columns


def prepare(points: Iterable[MetricPoint], now_us: int) -> dict[str, list[StoredPoint]]:
    """Check points and group them by key.

    Raises:
        Invalid: a key, step, value or time cannot be stored.
    """
    found: dict[str, list[StoredPoint]] = {}
    for point in points:
        key, at = point.key, point.at
        group = found.get(key)
        if group is None:
            group = found[check_key("metric", key)] = []
        bits = to_bits(check_value(key, point.value))
        group.append((check_step(key, point.step), now_us if at is None else to_micros(at), bits))
    return found


def write_points(database: Database, tx: Connection, points: Mapping[Place, Points]) -> None:
    """Store prepared points of one or many runs, by run number and key number.

    On PostgreSQL the series are locked in the order of their numbers: call it once in a transaction.
    """
    given = {place: _as_stored(found) for place, found in points.items() if len(found)}
    if not given:
        return
    series = _ensure_series(database, tx, given)
    tail = {place: found for place, found in given.items() if isinstance(found, list)}
    bulk.add_points(database, tx, [(series[place].id, *point) for place, found in tail.items() for point in found])
    changed = {series[place].id: _advanced(series[place], found) for place, found in given.items()}
    for place, found in given.items():
        if isinstance(found, Columns):
            add_block(tx, series[place].id, found)
    _pack_tails(tx, changed, sum(map(len, tail.values())))
    bulk.update_series(database, tx, changed)


def _as_stored(points: Points) -> Points:
    """Many points as columns in order, few as rows."""
    if len(points) < BLOCK_FROM:
        return points if isinstance(points, list) else to_rows(points)
    return in_order(points if isinstance(points, Columns) else from_rows(points))


def _ensure_series(database: Database, tx: Connection, points: Mapping[Place, Points]) -> dict[Place, Series]:
    """The series, made where a run has none of that key yet."""
    places = sorted(points)
    found = bulk.lock_series(database, tx, places)
    missing = [place for place in places if place not in found]
    if not missing:
        return found
    rows = []
    for place in missing:
        last = _last(points[place])
        rows.append((*place, *last, bulk.comparable(last[2])))
    bulk.add_series(database, tx, rows)
    return found | bulk.lock_series(database, tx, missing)


def _advanced(series: Series, points: Points) -> Series:
    tail = len(points) if isinstance(points, list) else 0
    return Series(series.id, max(series.last, _last(points)), series.tail_count + tail)


def _last(points: Points) -> StoredPoint:
    if isinstance(points, list):
        return max(points)
    end = points.part(slice(-1, None))
    return int(end.steps[0]), int(end.times_us[0]), int(order_bits(end.values)[0])


def _pack_tails(tx: Connection, changed: dict[int, Series], written: int) -> None:
    """Pack the longest tails, at most about twice as many points as were written, so that no writer pays for many."""
    crowded = sorted((item for item in changed.values() if item.tail_count >= TAIL_LIMIT), key=_tail_count)
    for item in crowded[-(1 + 2 * written // TAIL_LIMIT) :]:
        points, more = take_tail(tx, item.id)
        add_block(tx, item.id, points)
        changed[item.id] = Series(item.id, item.last, TAIL_LIMIT if more else 0)


def _tail_count(series: Series) -> int:
    return series.tail_count
