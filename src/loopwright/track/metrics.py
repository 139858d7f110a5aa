"""Metric points on their way in: checked, grouped by series, stored as blocks where they are many, as rows where few.

The same point (key, step, time, value) is there once however often it is delivered. The last value of a series is
that of its highest step; among equal steps the latest time counts, then the higher value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from sqlalchemy import Connection

from loopwright.store import Database
from loopwright.track import bulk
from loopwright.track.bulk import Place, Series, StoredPoint
from loopwright.track.columns import Columns, Ints, Mixed, from_rows, in_order, joined, order_bits, to_rows, together
from loopwright.track.compaction import TAIL_LIMIT, add_blocks, take_tail
from loopwright.track.frames import FRAME_FROM, add_frame, group_ends, group_starts, take_frames
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


def prepare_timed(points: Sequence[TimedPoint]) -> dict[str, list[StoredPoint]] | Mixed:
    """The same for points that come in bulk: many of them as columns.

    Raises:
        Invalid: a key or step cannot be stored.
    """
    if len(points) >= FRAME_FROM:
        times, values = [point.at_us for point in points], [point.value for point in points]
        return mixed([point.key for point in points], [point.step for point in points], times, values)
    found: dict[str, list[StoredPoint]] = {}
    for point, value in zip(points, list_of_bits([point.value for point in points]), strict=True):
        key = point.key
        group = found.get(key)
        if group is None:
            group = found[check_key("metric", key)] = []
        group.append((check_step(key, point.step), point.at_us, value))
    return found


def mixed(keys: Sequence[str], steps: Sequence[int], times_us: Sequence[int], values: Sequence[float]) -> Mixed:
    """Points of several metrics, from columns of equal length.

    Raises:
        Invalid: a key or step cannot be stored.
    """
    many = len(keys)
    places = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    for key in places:
        check_key("metric", key)
    try:
        whole = np.fromiter(steps, np.int64, many)
    except (OverflowError, TypeError, ValueError):
        for key, step in zip(keys, steps, strict=True):
            check_step(key, step)
        raise
    names = np.fromiter(map(places.__getitem__, keys), np.int64, many)
    points = Columns(whole, np.fromiter(times_us, np.int64, many), np.fromiter(values, np.float64, many))
    return Mixed(tuple(places), names, points)


class Pieces(NamedTuple):
    """Points of several metrics of one run, with the number of each one's key."""

    key_ids: Ints
    points: Columns


def split(pieces: Pieces) -> tuple[dict[int, Columns], Pieces]:
    """The points of keys that have many, by key number, and the rest."""
    order = np.argsort(pieces.key_ids, kind="stable")
    key_ids, points = pieces.key_ids[order], pieces.points.part(order)
    starts = group_starts(key_ids)
    ends = group_ends(starts, key_ids)
    many = np.flatnonzero(ends - starts >= BLOCK_FROM)
    if not len(many):
        return {}, Pieces(key_ids, points)
    found = {int(key_ids[starts[n]]): points.part(slice(starts[n], ends[n])) for n in many.tolist()}
    rest = np.repeat(ends - starts < BLOCK_FROM, ends - starts)
    return found, Pieces(key_ids[rest], points.part(rest))


def write_points(
    database: Database,
    tx: Connection,
    points: Mapping[Place, Points],
    mixed: Mapping[int, Sequence[Pieces]] | None = None,
) -> None:
    """Store prepared points of runs that this transaction holds.

    Args:
        points: by run number and key number.
        mixed: more of them by run number, of keys that have few here.
    """
    given = {place: _as_stored(found) for place, found in points.items() if len(found)}
    small: dict[int, dict[int, list[StoredPoint]]] = {}
    for (run_seq, key_id), found in given.items():
        if isinstance(found, list):
            small.setdefault(run_seq, {})[key_id] = found
    rest: dict[Place, Points] = {place: found for place, found in given.items() if isinstance(found, Columns)}
    for run_seq in sorted(small.keys() | (mixed or {}).keys()):
        frame = _framed(small.get(run_seq, {}), (mixed or {}).get(run_seq, ()))
        if frame is not None:
            _write_frame(database, tx, run_seq, frame)
            continue
        for key_id, found in _by_key(small.get(run_seq, {}), (mixed or {}).get(run_seq, ())).items():
            many = rest.get((run_seq, key_id))
            rest[run_seq, key_id] = joined([many, from_rows(found)]) if isinstance(many, Columns) else found
    if rest:
        _write_series(database, tx, rest)


def _framed(small: Mapping[int, list[StoredPoint]], mixed: Sequence[Pieces]) -> Pieces | None:
    """What is stored as a frame: the small pieces of a run that brings many of them, sorted; None for any other."""
    if len(small) + sum(len(some.points) for some in mixed) < 2:
        return None
    if sum(map(len, small.values())) + sum(len(some.points) for some in mixed) < FRAME_FROM:
        return None
    parts = list(mixed)
    if small:
        key_ids = np.repeat(np.fromiter(small, np.int64, len(small)), [len(found) for found in small.values()])
        parts.append(Pieces(key_ids, from_rows([point for found in small.values() for point in found])))
    key_ids, points = np.concatenate([part.key_ids for part in parts]), together([part.points for part in parts])
    order = np.lexsort((order_bits(points.values), points.times_us, points.steps, key_ids))
    return Pieces(key_ids[order], points.part(order))


def _by_key(small: Mapping[int, list[StoredPoint]], mixed: Sequence[Pieces]) -> dict[int, list[StoredPoint]]:
    found = {key_id: list(rows) for key_id, rows in small.items()}
    for some in mixed:
        for key_id, row in zip(some.key_ids.tolist(), to_rows(some.points), strict=True):
            found.setdefault(key_id, []).append(row)
    return found


def _write_frame(database: Database, tx: Connection, run_seq: int, frame: Pieces) -> None:
    ends = group_ends(group_starts(frame.key_ids), frame.key_ids) - 1
    keys, last = frame.key_ids[ends].tolist(), frame.points.part(ends)
    compared = [None if value != value else value for value in last.values.tolist()]
    rows = [(*point, value, run_seq, key) for point, value, key in zip(to_rows(last), compared, keys, strict=True)]
    bulk.put_series(database, tx, rows)
    if add_frame(tx, run_seq, *frame):
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
