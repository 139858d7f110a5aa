"""What a request of our own API brings, by column: from records, columns and the keys of entities. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loopwright.core import Invalid
from loopwright.serve.rest.tabular import single


def asked_columns(rows: Any, columns: Any, keys: Any) -> dict[str, list[Any]] | None:
    """What a request brings, a list per column; None for rows without names.

    Args:
        rows: records. columns: a list per column. keys: those of entities: one for all rows, or a list, per name; or a
            record per row.

    Raises:
        Invalid: the parts have different lengths, name a column twice, or there are no rows.
    """
    if rows is not None and columns is not None:
        raise Invalid("the request has one of 'rows' and 'columns'")
    found = _of_records("rows", rows) if rows is not None else _listed(columns or {})
    if found is None:
        return None
    named = _of_records("keys", keys) if isinstance(keys, list) else _listed(keys or {})
    if named is None or (twice := named.keys() & found.keys()):
        raise Invalid("'keys' takes objects" if named is None else f"{min(twice)!r} is in the request twice")
    whole = {**named, **found}
    single = {name for name, values in (keys.items() if isinstance(keys, dict) else ()) if not isinstance(values, list)}
    counts = {name: len(values) for name, values in whole.items() if name not in single}
    if not whole or 0 in counts.values():
        raise Invalid("the request has no rows", next_step="send 'rows', 'columns' or 'keys'")
    count = next(iter(counts.values()), 1)
    for name, other in counts.items():
        if other != count:
            raise Invalid(f"{name!r} has {other} values, where {next(iter(counts))!r} has {count}")
    return {name: values * count if name in single else values for name, values in whole.items()}


def _of_records(where: str, records: Any) -> dict[str, list[Any]] | None:
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        return None
    names = dict.fromkeys(name for record in records for name in record)
    for name in names:
        for row, record in enumerate(records):
            if name not in record:
                raise Invalid(f"row {row} of {where!r} lacks {name!r}, which another row has")
    return {name: [single(record[name]) for record in records] for name in names}


def _listed(columns: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {
        name: [single(value) for value in values] if isinstance(values, list) else [values]
        for name, values in columns.items()
    }
