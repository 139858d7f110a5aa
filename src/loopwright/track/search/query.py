"""One page of a search: the filter and the order compiled, run, and the rows of runs given back."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, Select, select

from loopwright.core import NotFound
from loopwright.store import Database
from loopwright.track.keys import find_keys
from loopwright.track.search import compiler, paging
from loopwright.track.search.language import parse_filter, parse_order
from loopwright.track.tables import runs


def search_rows(
    database: Database,
    connection: Connection,
    project: str,
    *,
    filter: str,
    experiment_id: str,
    limit: int,
    after: str,
    order_by: tuple[str, ...],
) -> list[Row[Any]]:
    """The rows of a page of runs.

    Raises:
        Invalid: the filter or the order is malformed.
        NotFound: there is no run `after`.
    """
    comparisons, sort_keys = parse_filter(filter), parse_order(order_by)
    keys = compiler.keys_of(comparisons) | paging.keys_of(sort_keys)
    key_ids = find_keys(database, connection, keys)
    ordering = paging.Ordering(sort_keys, key_ids)
    mine = (runs.c.project == project) & runs.c.deleted_at.is_(None)
    query: Select[Any] = select(runs).select_from(ordering.source).where(mine)
    if experiment_id:
        query = query.where(runs.c.experiment_id == experiment_id)
    for item in comparisons:
        query = query.where(compiler.condition(item, key_ids, database.dialect))
    if after:
        query = query.where(ordering.after(_place(connection, ordering, project, after)))
    return list(connection.execute(query.order_by(*ordering.clauses()).limit(limit)))


def _place(connection: Connection, ordering: paging.Ordering, project: str, run_id: str) -> Row[Any]:
    query = select(*ordering.columns).select_from(ordering.source)
    row = connection.execute(query.where(runs.c.project == project, runs.c.id == run_id)).one_or_none()
    if row is None:
        raise NotFound(f"there is no run {run_id[:60]!r} to go on after", next_step="start again from the first page")
    return row
