"""Ranges of indexes met on SQLite: the runs that are in all of them.

Each range comes as one JSON text, which costs a tenth of as many rows and little more than to count them; they are met
here, since SQLite's INTERSECT sorts them into a tree first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Integer, Select, func, literal, select
from sqlalchemy import column as sql_column
from sqlalchemy.types import TypeEngine

from loopwright.track.tables import runs

_NUMBERS = msgspec.json.Decoder(list[int])


def read_ranges(connection: Connection, ranges: Sequence[Select[Any]], most: int) -> tuple[int, list[str]]:
    """About how many runs there are, and at most so many entries of each range, as JSON arrays of runs' numbers."""
    columns = [next(iter(found.limit(most).subquery().c)) for found in ranges]
    texts = [select(func.json_group_array(column)).scalar_subquery() for column in columns]
    runs_seq, *found = connection.execute(select(select(func.max(runs.c.seq)).scalar_subquery(), *texts)).one()
    return runs_seq or 0, found


def size_of(text: str) -> int:
    """How many entries a range has that was read."""
    return text.count(",") + 1 if len(text) > 2 else 0


def meet(texts: Sequence[str]) -> str:
    """The numbers of the runs that are in every one of these ranges, in order, as a JSON array."""
    lists = sorted((_NUMBERS.decode(text) for text in texts), key=len)
    met = set(lists[0]).intersection(*lists[1:])
    return f"[{','.join(map(str, sorted(met)))}]"


def is_among(column: ColumnElement[Any], values: str, kind: type[TypeEngine[Any]] = Integer) -> ColumnElement[bool]:
    """The condition that a column has one of the values of a JSON array."""
    each = func.json_each(literal(values)).table_valued(sql_column("value", kind))
    return column.in_(select(each.c.value))
