"""Find single predictions: in the tables, or in what has not reached them yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import ColumnElement, Row, select

from loopwright.core import NotFound, decode, parse_ref
from loopwright.monitor.batches import moment
from loopwright.monitor.cursors import place_of
from loopwright.monitor.frames import INPUT, OUTPUT
from loopwright.monitor.model import PredictionRecord, PredictionSummary
from loopwright.monitor.places import COMPACTOR, feedback_key, prediction_folder, predictions_key
from loopwright.monitor.tables import monitored_endpoints, predictions
from loopwright.store import Stores

if TYPE_CHECKING:
    from loopwright.serve import Prediction

_READ_AT_ONCE = 10_000


def find(stores: Stores, project: str, ref: str) -> PredictionRecord:
    """The record of one prediction, as soon as it is in the journal.

    Args:
        ref: `prediction:0197…`, or the id alone.

    Raises:
        NotFound: no such prediction was logged in this project.
        Invalid: the ref is malformed.
    """
    identifier = parse_ref(ref, "prediction").name
    row = _kept_row(stores, identifier)
    if row is None or row.project == project:
        found = _in_tables(stores, project, identifier, row) or _in_journal(stores, identifier)
        if found is not None and _owner(stores, found.endpoint) in (project, None):
            return _with_label(stores, project, found, row)
    raise NotFound(
        f"there is no prediction {identifier!r}",
        next_step="check the id, and that the endpoint logs all rows (its log policy may sample)",
    )


def _kept_row(stores: Stores, identifier: str) -> Row[Any] | None:
    with stores.db.read() as connection:
        return connection.execute(select(predictions).where(predictions.c.id == identifier)).first()


def _owner(stores: Stores, endpoint: str) -> str | None:
    table = monitored_endpoints
    with stores.db.read() as connection:
        return connection.execute(select(table.c.project).where(table.c.endpoint == endpoint)).scalar_one_or_none()


def _in_journal(stores: Stores, identifier: str) -> PredictionRecord | None:
    """Look through what is not in the tables yet; at most what compaction lets gather."""
    from loopwright.serve import read_predictions

    cursor = place_of(stores.db, COMPACTOR).cursor("predictions")
    while True:
        rows, cursor = read_predictions(prediction_folder(stores), cursor, _READ_AT_ONCE)
        for row in rows:
            if row.id == identifier:
                return _from_journal(row)
        if len(rows) < _READ_AT_ONCE:
            return None


def _in_tables(stores: Stores, project: str, identifier: str, row: Row[Any] | None) -> PredictionRecord | None:
    import polars as pl

    for endpoint in [row.endpoint] if row is not None else _endpoints(stores, project):
        key = predictions_key(project, endpoint)
        if not stores.tables.exists(key):
            continue
        found = stores.tables.scan(key).filter(pl.col("id") == identifier).head(1).collect()
        if found.height:
            return _from_table(endpoint, found.row(0, named=True))
    return None


def _endpoints(stores: Stores, project: str) -> list[str]:
    table = monitored_endpoints
    with stores.db.read() as connection:
        return list(connection.execute(select(table.c.endpoint).where(table.c.project == project)).scalars())


def _from_journal(row: Prediction) -> PredictionRecord:
    return PredictionRecord(
        id=row.id,
        ref=f"prediction:{row.id}",
        endpoint=row.endpoint,
        model=row.model,
        variant=row.variant,
        shadow=row.shadow,
        status=str(row.status),
        key=row.key,
        event_time=moment(row.event_time),
        received_at=moment(row.received_at),
        latency_ms=row.latency_us / 1000,
        features=dict(zip(row.columns, row.features, strict=True)),
        outputs=row.outputs,
    )


def _from_table(endpoint: str, row: Mapping[str, Any]) -> PredictionRecord:
    return PredictionRecord(
        id=row["id"],
        ref=f"prediction:{row['id']}",
        endpoint=endpoint,
        model=row["model"],
        variant=row["variant"],
        shadow=row["shadow"],
        status=row["status"],
        key=row["key"],
        event_time=row["event_time"],
        received_at=row["received_at"],
        latency_ms=row["latency_us"] / 1000,
        features=_named(row, INPUT),
        outputs={name: value for name, value in _named(row, OUTPUT).items() if value is not None},
    )


def _named(row: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in row.items() if name.startswith(prefix)}


def _with_label(stores: Stores, project: str, found: PredictionRecord, row: Row[Any] | None) -> PredictionRecord:
    """The record with the truth, if it came: from the row that labels are joined to, later from the feedback table."""
    if row is not None:
        return msgspec.structs.replace(found, label=row.label, labelled_at=row.labelled_at)
    label, at = _label_in_table(stores, feedback_key(project, found.endpoint), found.id)
    return msgspec.structs.replace(found, label=label, labelled_at=at)


def _label_in_table(stores: Stores, key: str, identifier: str) -> tuple[Any, datetime | None]:
    import polars as pl

    if not stores.tables.exists(key):
        return None, None
    rows = stores.tables.scan(key).filter(pl.col("prediction_id") == identifier).sort("received_at").tail(1).collect()
    return (decode(rows["value"][0]), rows["at"][0]) if rows.height else (None, None)


def of_models(
    stores: Stores, project: str, models: Sequence[str], limit: int, after: str = ""
) -> list[PredictionSummary]:
    """The predictions of model versions, newest first; `after` is the last id of the page before. They go back as far
    as labels are joined (180 days); older ones are in the tables."""
    return _summaries(stores, project, predictions.c.model.in_(list(models)), limit, after)


def of_endpoint(stores: Stores, project: str, endpoint: str, limit: int, after: str = "") -> list[PredictionSummary]:
    """The same of an endpoint."""
    return _summaries(stores, project, predictions.c.endpoint == endpoint, limit, after)


def _summaries(
    stores: Stores, project: str, which: ColumnElement[bool], limit: int, after: str
) -> list[PredictionSummary]:
    table = predictions
    query = select(table).where(table.c.project == project, which)
    if after:
        query = query.where(table.c.id < after.removeprefix("prediction:"))
    with stores.db.read() as connection:
        rows = connection.execute(query.order_by(table.c.id.desc()).limit(limit))
        return [PredictionSummary(row.id, row.endpoint, row.model, row.event_time, row.label) for row in rows]
