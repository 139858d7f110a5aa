"""The order of a search and the page after a given run, by key and not by offset.

The order ends in the run's start and number, newest first, so it is total. A page starts after a run: the values of its
sort keys are read again and compared, so pages neither repeat nor skip runs that stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Row, and_, or_

from loopwright.track.search.language import Entity, SortKey
from loopwright.track.tables import run_params, run_series, run_tags, runs

_TABLES = {Entity.PARAM: run_params, Entity.TAG: run_tags, Entity.METRIC: run_series}


class Ordering:
    """Sort keys bound to SQL: which tables to join, what to order by, and what comes after a row."""

    def __init__(self, keys: tuple[SortKey, ...], key_ids: Mapping[str, int]) -> None:
        self.source: FromClause = runs
        self._columns: list[tuple[Any, bool]] = []
        for number, key in enumerate(keys):
            if key.entity is Entity.ATTRIBUTE or key.key in key_ids:
                self._columns.append((self._column(number, key, key_ids), key.descending))
        self._columns += [(runs.c.started_at, True), (runs.c.seq, True)]

    def _column(self, number: int, key: SortKey, key_ids: Mapping[str, int]) -> Any:
        if key.entity is Entity.ATTRIBUTE:
            return runs.c[key.key]
        table = _TABLES[key.entity].alias(f"sort_{number}")
        joined = and_(table.c.run_seq == runs.c.seq, table.c.key_id == key_ids[key.key])
        self.source = self.source.outerjoin(table, joined)
        return table.c.last_value if key.entity is Entity.METRIC else table.c.value

    @property
    def columns(self) -> list[ColumnElement[Any]]:
        """The values that a page's last row is remembered by."""
        return [column.label(f"sort_value_{number}") for number, (column, _) in enumerate(self._columns)]

    def clauses(self) -> list[ColumnElement[Any]]:
        """What to order by; a missing value comes last in both directions."""
        found: list[ColumnElement[Any]] = []
        for column, descending in self._columns:
            if self._may_miss(column):
                found.append(column.is_(None))
            found.append(column.desc() if descending else column.asc())
        return found

    def after(self, row: Row[Any]) -> ColumnElement[bool]:
        """The condition that a run comes after `row`, which holds the values of `columns`."""
        alternatives: list[ColumnElement[bool]] = []
        same: list[ColumnElement[bool]] = []
        for (column, descending), value in zip(self._columns, row, strict=True):
            later = self._later(column, descending, value)
            if later is not None:
                alternatives.append(and_(*same, later))
            same.append(column.is_(None) if value is None else column == value)
        return or_(*alternatives)

    def _later(self, column: Any, descending: bool, value: Any) -> ColumnElement[bool] | None:
        if value is None:
            return None
        beyond = column < value if descending else column > value
        return or_(beyond, column.is_(None)) if self._may_miss(column) else beyond

    def _may_miss(self, column: Any) -> bool:
        return column is not runs.c.started_at and column is not runs.c.seq


def keys_of(keys: tuple[SortKey, ...]) -> set[str]:
    """The keys of metrics, params and tags that an order names."""
    return {key.key for key in keys if key.entity is not Entity.ATTRIBUTE}
