"""Metric points on their way in: checked, grouped by series, stored as blocks where they are many, as rows where few.

The same point (key, step, time, value) is there once however often it is delivered. The last value of a series is
that of its highest step; among equal steps the latest time counts, then the higher value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from sqlalchemy import Connection

from loopwright.store import Database
from loopwright.track import bulk
from loopwright.track.bulk import Place, Series, StoredPoint
from loopwright.track.columns import Columns, from_rows, in_order, order_bits, to_rows
from loopwright.track.compaction import TAIL_LIMIT, add_blocks, take_tail
from loopwright.track.frames import FRAME_FROM, add_frame, take_frames
from loopwright.track.model import MetricPoint, TimedPoint
from loopwright.track.values import check_key, check_step, check_value, list_of_bits, to_micros

BLOCK_FROM = 128
Points: TypeAlias = list[StoredPoint] | Columns


def prepare(points: Iterable[MetricPoint], now_us: int) -> dict[str, list[StoredPoint]]:
    """Check points and group them by key.

    Raises:
        Invalid: a key, step, value or time cannot be stored.
    """
    found: dict[str, list[StoredPoint]] = {}
    points = list(points)
    bits = list_of_bits([check_value(point.key, point.value) for point in points])
    before, before_us = None, now_us
    for point, value in zip(points, bits, strict=True):
        key, at = point.key, point.at
        group = found.get(key)
        if group is None:
            group = found[check_key("metric", key)] = []
        if at is not before:
            before, before_us = at, now_us if at is None else to_micros(at)
        group.append((check_step(key, point.step), before_us, value))
    return found


def prepare_timed(points: Sequence[TimedPoint]) -> dict[str, list[StoredPoint]]:
    """The same for points that come in bulk.

    Raises:
        Invalid: a key or step cannot be stored.
    """
    found: dict[str, list[StoredPoint]] = {}
    for point, value in zip(points, list_of_bits([point.value for point in points]), strict=True):
        key = point.key
        group = found.get(key)
        if group is None:
            group = found[check_key("metric", key)] = []
        group.append((check_step(key, point.step), point.at_us, value))
    return found


def write_points(database: Database, tx: Connection, points: Mapping[Place, Points]) -> None:
    """Store prepared points of runs that this transaction holds, by run number and key number."""
    given = {place: _as_stored(found) for place, found in points.items() if len(found)}
    framed = _framed(given)
    for run_seq, found in framed.items():
        _write_frame(database, tx, run_seq, found)
    rest = {place: found for place, found in given.items() if place[0] not in framed or isinstance(found, Columns)}
    if rest:
        _write_series(database, tx, rest)


def _framed(given: Mapping[Place, Points]) -> dict[int, dict[int, list[StoredPoint]]]:
    """What is stored as frames, by run and key: the small pieces of runs that bring many of them."""
    pieces: dict[int, dict[int, list[StoredPoint]]] = {}
    for (run_seq, key_id), found in given.items():
        if isinstance(found, list):
            pieces.setdefault(run_seq, {})[key_id] = found
    return {
        run_seq: found
        for run_seq, found in pieces.items()
        if len(found) > 1 and sum(map(len, found.values())) >= FRAME_FROM
    }


def _write_frame(database: Database, tx: Connection, run_seq: int, points: Mapping[int, list[StoredPoint]]) -> None:
    lasts = {(run_seq, key_id): _last(found) for key_id, found in sorted(points.items())}
    if bulk.advance_series(database, tx, lasts) < len(lasts):
        _ensure_series(database, tx, lasts)
    if add_frame(tx, run_seq, points):
        taken = take_frames(tx, run_seq)
        series = bulk.find_series(database, tx, [(run_seq, key_id) for key_id in sorted(taken)])
        add_blocks(tx, {series[run_seq, key_id].id: columns for key_id, columns in taken.items()})


def _write_series(database: Database, tx: Connection, given: Mapping[Place, Points]) -> None:
    lasts = {place: _last(found) for place, found in given.items()}
    series = _ensure_series(database, tx, lasts)
    rows: list[tuple[int, int, int, int]] = []
    many: dict[int, Columns] = {}
    changed: dict[int, Series] = {}
    for place, found in given.items():
        number, last, tail = series[place]
        if isinstance(found, list):
            tail += len(found)
            rows += [(number, *point) for point in found]
        else:
            many[number] = found
        changed[number] = Series(number, max(last, lasts[place]), tail)
    bulk.add_points(database, tx, rows)
    add_blocks(tx, many)
    _pack_tails(tx, changed, len(rows))
    bulk.update_series(database, tx, list(changed.values()))


def _as_stored(points: Points) -> Points:
    """Many points as columns in order, few as rows."""
    if len(points) < BLOCK_FROM:
        return points if isinstance(points, list) else to_rows(points)
    return in_order(points if isinstance(points, Columns) else from_rows(points))


def _ensure_series(database: Database, tx: Connection, lasts: Mapping[Place, StoredPoint]) -> dict[Place, Series]:
    """The series, made where a run has none of that key yet."""
    places = sorted(lasts)
    found = bulk.find_series(database, tx, places)
    if len(found) == len(places):
        return found
    missing = [place for place in places if place not in found]
    bulk.add_series(database, tx, {place: lasts[place] for place in missing})
    return found | bulk.find_series(database, tx, missing)


def _last(points: Points) -> StoredPoint:
    if isinstance(points, list):
        return points[0] if len(points) == 1 else max(points)
    end = points.part(slice(-1, None))
    return int(end.steps[0]), int(end.times_us[0]), int(order_bits(end.values)[0])


def _pack_tails(tx: Connection, changed: dict[int, Series], written: int) -> None:
    """Pack the longest tails, at most about twice as many points as were written, so that no writer pays for many."""
    crowded = sorted((item for item in changed.values() if item.tail_count >= TAIL_LIMIT), key=_tail_count)
    for item in crowded[-(1 + 2 * written // TAIL_LIMIT) :]:
        points, more = take_tail(tx, item.id)
        add_blocks(tx, {item.id: points})
        changed[item.id] = Series(item.id, item.last, TAIL_LIMIT if more else 0)


def _tail_count(series: Series) -> int:
    return series.tail_count
