"""Statements that change logged models, each inside a transaction that its caller opened."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select

from loopwright.store import Database
from loopwright.track.logged.model import LoggedMetric
from loopwright.track.logged.tables import logged_metrics
from loopwright.track.values import check_key, check_step, check_value, to_bits, to_micros

_KEY = ["model", "key", "run", "dataset", "dataset_digest"]


def write_logged_metrics(database: Database, tx: Connection, model: str, points: Sequence[LoggedMetric]) -> None:
    """Keep the newest point of each metric, run and dataset: the latest step, then time, then the greatest value.

    Raises:
        Invalid: a key, value or step cannot be stored.
    """
    rows = [_row(model, point) for point in points]
    database.lock(tx, f"logged metrics {model}")
    newest = {_place(row): row for row in _held(tx, model, {point.key for point in points})}
    changed: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows:
        if (held := newest.get(_place(row))) is None or _rank(held) < _rank(row):
            newest[_place(row)] = changed[_place(row)] = row
    if changed:
        statement = database.upsert(logged_metrics, {}, _KEY, ["bits", "value", "step", "at"])
        tx.execute(statement, list(changed.values()))


def _held(tx: Connection, model: str, keys: set[str]) -> list[dict[str, Any]]:
    query = select(logged_metrics).where(logged_metrics.c.model == model, logged_metrics.c.key.in_(sorted(keys)))
    return [dict(row._mapping) for row in tx.execute(query)]


def _place(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(row[name] for name in _KEY)


def _row(model: str, point: LoggedMetric) -> dict[str, Any]:
    value = check_value(check_key("metric", point.key), point.value)
    return {
        "model": model,
        "key": point.key,
        "run": point.run,
        "dataset": point.dataset[:500],
        "dataset_digest": point.dataset_digest[:64],
        "bits": to_bits(value),
        "value": None if math.isnan(value) else value,
        "step": check_step(point.key, point.step),
        "at": to_micros(point.at),
    }


def _rank(row: Mapping[str, Any]) -> tuple[int, int, int]:
    return row["step"], row["at"], row["bits"]
