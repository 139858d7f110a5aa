"""From rows to records of logged models: one query per kind of thing, however many models are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Row, select

from loopwright.core import NotFound
from loopwright.track.logged.model import LoggedMetric, LoggedModel, LoggedStatus
from loopwright.track.logged.tables import logged_metrics, logged_models, logged_params, logged_tags
from loopwright.track.owned_texts import read_texts
from loopwright.track.values import from_bits, from_micros, to_wire

_CHUNK = 500


def any_logged_model(connection: Connection, project: str, model: str) -> Row[Any]:
    """The row of a logged model, deleted or not.

    Raises:
        NotFound: there is no such model in this project.
    """
    query = select(logged_models).where(logged_models.c.id == model, logged_models.c.project == project)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound(f"Logged model with ID '{model[:80]}' not found.", next_step="search the logged models")
    return row


def the_logged_model(connection: Connection, project: str, model: str) -> Row[Any]:
    """The row of a logged model that is not deleted.

    Raises:
        NotFound: there is no such model in this project.
    """
    row = any_logged_model(connection, project, model)
    if row.deleted_at is not None:
        raise NotFound(f"Logged model with ID '{model[:80]}' not found.", next_step="it was deleted")
    return row


def load_logged_models(connection: Connection, rows: Sequence[Row[Any]]) -> list[LoggedModel]:
    """The records of rows of logged models, in their order."""
    ids = [row.id for row in rows]
    params, tags = read_texts(connection, logged_params, ids), read_texts(connection, logged_tags, ids)
    metrics = _metrics(connection, ids)
    return [
        LoggedModel(
            id=row.id,
            experiment_id=row.experiment_id,
            name=row.name,
            model_type=row.model_type,
            source_run=row.source_run,
            status=LoggedStatus(row.status),
            status_message=row.status_message,
            created_at=row.created_at,
            updated_at=row.updated_at,
            actor=row.actor,
            deleted=row.deleted_at is not None,
            params=params.get(row.id, {}),
            tags=tags.get(row.id, {}),
            metrics=tuple(metrics.get(row.id, ())),
        )
        for row in rows
    ]


def _metrics(connection: Connection, ids: Sequence[str]) -> dict[str, list[LoggedMetric]]:
    found: dict[str, list[LoggedMetric]] = {}
    columns = logged_metrics.c
    for some in _chunks(ids):
        query = select(logged_metrics).where(columns.model.in_(some))
        ordered = query.order_by(columns.key, columns.run, columns.dataset, columns.dataset_digest)
        for row in connection.execute(ordered):
            point = LoggedMetric(
                row.key,
                to_wire(from_bits(row.bits)),
                row.step,
                from_micros(row.at),
                row.run,
                row.dataset,
                row.dataset_digest,
            )
            found.setdefault(row.model, []).append(point)
    return found


def _chunks(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK))
