"""What arrays of runs are made of, read from the database as columns."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import msgspec
import numpy as np
from sqlalchemy import Connection

from loopwright.track.search.arrays import Array, Name
from loopwright.track.search.words import Entity

_TABLES = {Entity.METRIC: "run_series", Entity.PARAM: "run_params", Entity.TAG: "run_tags"}
_RUN = "seq, id, project, experiment_id, started_at, deleted_at"


class RunColumns(NamedTuple):
    """Runs in the order of their numbers."""

    seqs: list[int]
    ids: list[str]
    projects: list[str]
    experiments: list[str]
    started: list[int]
    deleted: list[int | None]


def read_runs_after(connection: Connection, seq: int, most: int) -> RunColumns:
    """At most so many runs with higher numbers."""
    return RunColumns(*_read(connection, _RUN, f"runs WHERE seq > {seq:d} ORDER BY seq LIMIT {most:d}"))


def read_runs(connection: Connection, seqs: Collection[int]) -> RunColumns:
    """Those of the runs that are there."""
    return RunColumns(*_read(connection, _RUN, f"runs WHERE seq {_AMONG[connection.dialect.name]} ORDER BY seq", seqs))


def read_revisions(connection: Connection) -> tuple[Array, list[int]]:
    """Numbers and revisions of all runs that were ever touched."""
    seqs, revisions = _read(connection, "run_seq, revision", "run_changes")
    return np.array(seqs, np.int64), revisions


def read_named(connection: Connection, name: Name, seqs: Collection[int] | None = None) -> tuple[Array, list[Any]]:
    """Numbers of the runs that have something, of all or of these, and their values: bits of a metric, or texts."""
    entity, key = name
    among = _AMONG[connection.dialect.name]
    given = [] if seqs is None else [seqs]
    if entity is Entity.ATTRIBUTE:
        found = _read(connection, f"seq, {key}", "runs" if seqs is None else f"runs WHERE seq {among}", *given)
        return np.array(found[0], np.int64), found[1]
    rest = f"{_TABLES[entity]} WHERE key_id = {_KEY[connection.dialect.name]}"
    columns = "run_seq, last_bits" if entity is Entity.METRIC else "run_seq, value"
    found = _read(connection, columns, rest if seqs is None else f"{rest} AND run_seq {among}", key, *given)
    return np.array(found[0], np.int64), found[1]


_KEY = {
    "sqlite": "(SELECT id FROM run_keys WHERE key = ?)",
    "postgresql": "(SELECT id FROM run_keys WHERE key = %s)",
}
_AMONG = {"sqlite": "IN (SELECT value FROM json_each(?))", "postgresql": "= ANY(%s)"}
_ARRAY = {
    "sqlite": "json_group_array({})",
    "postgresql": "coalesce(array_to_json(array_agg({}))::text, '[]')",
}


def _read(connection: Connection, columns: str, rest: str, *given: str | Collection[int]) -> list[list[Any]]:
    """Columns as JSON arrays, which cost a third of what rows do. All names are our own; what is asked is bound."""
    dialect = connection.dialect.name
    arrays = ", ".join(_ARRAY[dialect].format(column) for column in columns.split(", "))
    query = f"SELECT {arrays} FROM (SELECT {columns} FROM {rest}) AS found"  # noqa: S608 - of our own names
    row = connection.exec_driver_sql(query, tuple(_bound(dialect, value) for value in given)).one()
    return [_LIST.decode(text) for text in row]


def _bound(dialect: str, value: str | Collection[int]) -> Any:
    if isinstance(value, str):
        return value
    return list(value) if dialect == "postgresql" else msgspec.json.encode(list(value)).decode()


_LIST = msgspec.json.Decoder(list[Any])
