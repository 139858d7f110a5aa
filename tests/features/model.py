"""The point-in-time join as a plain loop, slow and plain to see: what the real one is held against."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple


class Row(NamedTuple):
    """A row of a view's dataset."""

    key: Any
    at: datetime | None
    known: datetime | None
    value: Any


def value_at(
    rows: Sequence[Row],
    key: Any,
    moment: datetime | None,
    *,
    ttl: timedelta | None = None,
    as_of: datetime | None = None,
    uses_known: bool = True,
) -> Any:
    """What was known of `key` at `moment`."""
    best: tuple[Any, ...] | None = None
    found = None
    for row in rows:
        if key is None or moment is None or row.key != key or row.at is None or (uses_known and row.known is None):
            continue
        seen = max(row.at, row.known) if uses_known and row.known is not None else row.at
        if seen > moment or (as_of is not None and seen > as_of):
            continue
        # A null loses a tie, the greatest value wins it.
        rank = (row.at, seen, row.value is not None, row.value if row.value is not None else 0)
        if best is None or rank >= best:
            best, found = rank, row
    if found is None or (ttl is not None and moment is not None and found.at is not None and moment - found.at > ttl):
        return None
    return found.value
