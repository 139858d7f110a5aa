"""What hangs on runs in a backend store: texts, datasets, logged models, for many runs in a query each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table, select

from loopwright.track import DatasetUse, ModelUse


def texts_by(
    connection: Connection, table: Table | None, owner: str, owners: Sequence[Any] | None = None
) -> dict[Any, dict[str, str]]:
    """Values by key of each owner; of these owners only, if any are named."""
    found: dict[Any, dict[str, str]] = defaultdict(dict)
    if table is None:
        return found
    column = table.c[owner]
    query = select(column, table.c.key, table.c.value)
    if owners is not None:
        query = query.where(column.in_(owners))
    for row in connection.execute(query.order_by(column, table.c.key)):
        found[row[0]][row.key] = row.value or ""
    return found


def dataset_uses(
    connection: Connection, tables: Mapping[str, Table], runs: Sequence[str]
) -> dict[str, list[DatasetUse]]:
    """The datasets that each run read."""
    if not {"datasets", "inputs", "input_tags"} <= tables.keys():
        return {}
    inputs, datasets = tables["inputs"].c, tables["datasets"]
    query = (
        select(datasets, inputs.destination_id, inputs.input_uuid)
        .join(tables["inputs"], inputs.source_id == datasets.c.dataset_uuid)
        .where(inputs.source_type == "DATASET", inputs.destination_type == "RUN", inputs.destination_id.in_(runs))
        .order_by(inputs.destination_id, datasets.c.name, datasets.c.digest)
    )
    rows = connection.execute(query).all()
    tags = _input_tags(connection, tables["input_tags"], [row.input_uuid for row in rows])
    found: dict[str, list[DatasetUse]] = defaultdict(list)
    for row in rows:
        use = DatasetUse(
            row.name,
            row.digest,
            row.dataset_source_type or "",
            row.dataset_source or "",
            row.dataset_schema or "",
            row.dataset_profile or "",
            tags.get(row.input_uuid, {}),
        )
        found[row.destination_id].append(use)
    return found


def _input_tags(connection: Connection, table: Table, inputs: Sequence[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for start in range(0, len(inputs), 500):
        query = select(table).where(table.c.input_uuid.in_(inputs[start : start + 500]))
        for row in connection.execute(query.order_by(table.c.name)):
            found[row.input_uuid][row.name] = row.value
    return found


def model_uses(
    connection: Connection, tables: Mapping[str, Table], runs: Sequence[str]
) -> dict[str, dict[str, list[ModelUse]]]:
    """The logged models that each run read (`input`) and made (`output`)."""
    found: dict[str, dict[str, list[ModelUse]]] = {"input": defaultdict(list), "output": defaultdict(list)}
    table = tables.get("inputs")
    if table is None:
        return found
    for role, source in (("input", "RUN_INPUT"), ("output", "RUN_OUTPUT")):
        mine = (table.c.source_type == source, table.c.source_id.in_(runs))
        for row in connection.execute(select(table).where(*mine).order_by(table.c.destination_id)):
            found[role][row.source_id].append(ModelUse(row.destination_id, int(row._mapping.get("step") or 0)))
    return found
