"""Metric points: written in batches, read as columns.

The same point (key, step, time, value) is stored once however often it is delivered. The last value of a series is that
of its highest step; among equal steps the latest time counts, then the higher value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, and_, bindparam, or_, select, update

from loopwright.store import Database
from loopwright.track.keys import find_keys, intern_keys
from loopwright.track.model import MetricHistory, MetricPoint, Value
from loopwright.track.tables import run_points, run_series
from loopwright.track.values import check_key, check_step, check_value, from_bits, to_bits, to_micros, to_wire


class StoredPoint(msgspec.Struct, frozen=True, order=True):
    """A point as it is stored: comparable, the greatest is the series' last."""

    step: int
    at_us: int
    bits: int


def prepare(points: Iterable[MetricPoint], now_us: int) -> dict[str, list[StoredPoint]]:
    """Check points and group them by key.

    Raises:
        Invalid: a key, step, value or time cannot be stored.
    """
    found: dict[str, list[StoredPoint]] = {}
    for point in points:
        at_us = now_us if point.at is None else to_micros(point.at)
        bits = to_bits(check_value(point.key, point.value))
        stored = StoredPoint(check_step(point.key, point.step), at_us, bits)
        found.setdefault(check_key("metric", point.key), []).append(stored)
    return found


def write_points(database: Database, tx: Connection, run_seq: int, points: Mapping[str, Sequence[StoredPoint]]) -> None:
    """Store the prepared points of one run."""
    if not points:
        return
    key_ids = intern_keys(database, tx, points)
    by_key_id = {key_ids[key]: found for key, found in points.items()}
    series = _ensure_series(database, tx, run_seq, by_key_id)
    rows = [
        {"series_id": series[key_id], "step": item.step, "at": item.at_us, "bits": item.bits}
        for key_id, found in by_key_id.items()
        for item in found
    ]
    tx.execute(database.upsert(run_points, {}, ["series_id", "step", "at", "bits"]), rows)
    tx.execute(_ADVANCE, [_last_row(max(by_key_id[key_id]), series_id) for key_id, series_id in sorted(series.items())])


def read_history(database: Database, connection: Connection, run_seq: int, run_id: str, key: str) -> MetricHistory:
    """All points of one metric, by step, then time; empty if the run has no such metric."""
    key_id = find_keys(database, connection, [key]).get(key)
    of_series = select(run_series.c.id).where(run_series.c.run_seq == run_seq, run_series.c.key_id == key_id)
    columns = run_points.c
    rows = connection.execute(
        select(columns.step, columns.at, columns.bits)
        .where(columns.series_id == of_series.scalar_subquery())
        .order_by(columns.step, columns.at, columns.bits)
    ).all()
    steps, times, bits = zip(*rows, strict=True) if rows else ((), (), ())
    return MetricHistory(run_id, key, list(steps), list(times), _values(bits))


def _values(bits: Sequence[int]) -> list[Value]:
    return [to_wire(from_bits(item)) for item in bits]


def _ensure_series(
    database: Database, tx: Connection, run_seq: int, points: Mapping[int, Sequence[StoredPoint]]
) -> dict[int, int]:
    """The series' numbers by key number, made where the run has none yet."""
    found = _find_series(tx, run_seq, list(points))
    missing = sorted(points.keys() - found.keys())
    if not missing:
        return found
    rows = [{"run_seq": run_seq, "key_id": key_id, **_last(max(points[key_id]))} for key_id in missing]
    tx.execute(database.upsert(run_series, {}, ["run_seq", "key_id"]), rows)
    return _find_series(tx, run_seq, list(points))


def _find_series(tx: Connection, run_seq: int, key_ids: list[int]) -> dict[int, int]:
    query = select(run_series.c.key_id, run_series.c.id).where(run_series.c.run_seq == run_seq)
    if len(key_ids) <= _MANY_KEYS:
        query = query.where(run_series.c.key_id.in_(key_ids))
    wanted = set(key_ids)
    return {row.key_id: row.id for row in tx.execute(query) if row.key_id in wanted}


def _last(point: StoredPoint) -> dict[str, Any]:
    value = from_bits(point.bits)
    return {
        "last_step": point.step,
        "last_at": point.at_us,
        "last_bits": point.bits,
        "last_value": value if value == value else None,
    }


def _last_row(point: StoredPoint, series_id: int) -> dict[str, Any]:
    return {"the_series": series_id, **{f"new_{name}": value for name, value in _last(point).items()}}


def _advance() -> Any:
    """Move a series' last value forward, never back: several writers may deliver out of order."""
    columns = run_series.c
    step: Any = bindparam("new_last_step")
    at: Any = bindparam("new_last_at")
    bits: Any = bindparam("new_last_bits")
    later = or_(
        columns.last_step < step,
        and_(columns.last_step == step, columns.last_at < at),
        and_(columns.last_step == step, columns.last_at == at, columns.last_bits < bits),
    )
    values = {"last_step": step, "last_at": at, "last_bits": bits, "last_value": bindparam("new_last_value")}
    return update(run_series).where(columns.id == bindparam("the_series"), later).values(values)


_MANY_KEYS = 500
_ADVANCE = _advance()
