"""How results look: JSON for machines, tables for people."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core import encode

if TYPE_CHECKING:
    from rich.console import Console

_MAX_CELL = 60
_UNBROKEN = 10_000


def write_json(value: Any) -> None:
    """One object, or one object per line for a list."""
    items = value if isinstance(value, list | tuple) else [value]
    for item in items:
        sys.stdout.write(encode(item).decode() + "\n")
    sys.stdout.flush()


def show(value: Any, *, columns: tuple[str, ...] = (), title: str = "") -> None:
    """Print a value for a person: a list of records as a table, one record as name and value, else as it is."""
    console = console_of()
    if isinstance(value, str):
        sys.stdout.write(value if value.endswith("\n") else value + "\n")
    elif value is None:
        console.print("done")
    elif isinstance(value, list | tuple):
        console.print(table_of(value, columns, title) if value else "nothing here yet")
    else:
        console.print(pairs_of(value, title))


def console_of() -> Console:
    """Standard output. What goes to a file or a pipe is for grep and its kin: a row is one line there, however long."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() or os.environ.get("COLUMNS") else _UNBROKEN)


def table_of(items: Sequence[Any], columns: tuple[str, ...] = (), title: str = "") -> Any:
    """A rich table with one row per record."""
    from rich.table import Table
    from rich.text import Text

    rows = [as_mapping(item) for item in items]
    names = columns or tuple(name for name in rows[0] if any(_filled(row.get(name)) for row in rows))
    table = Table(title=title or None, header_style="bold", box=None, pad_edge=False)
    for name in names:
        numeric = all(isinstance(row.get(name), int | float | None) for row in rows)
        justify: Any = "right" if numeric else "left"
        # An id stays whole, so that it can be copied.
        table.add_column(name.replace("_", " "), justify=justify, overflow="fold", no_wrap=name == "id")
    for row in rows:
        table.add_row(*(Text(cell(row.get(name))) for name in names))
    return table


def pairs_of(item: Any, title: str = "") -> Any:
    """A rich table with one row per field of a record; nested records one level down."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in as_mapping(item).items():
        if _filled(value):
            table.add_row(name.replace("_", " "), Text(cell(value, limit=2000)))
    return table


def as_mapping(item: Any) -> Mapping[str, Any]:
    """A record's fields by name."""
    if isinstance(item, Mapping):
        return item
    if isinstance(item, msgspec.Struct):
        return {name: getattr(item, name) for name in item.__struct_fields__}
    return {"value": item}


def cell(value: Any, limit: int = _MAX_CELL) -> str:
    """A value as short text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e6 else f"{value:.0f}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, Mapping):
        text = ", ".join(f"{key}={cell(item, 30)}" for key, item in value.items())
    elif isinstance(value, list | tuple):
        text = ", ".join(cell(item, 30) for item in value)
    elif isinstance(value, msgspec.Struct):
        text = ", ".join(f"{key}={cell(item, 30)}" for key, item in as_mapping(value).items() if _filled(item))
    else:
        text = str(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _filled(value: Any) -> bool:
    if isinstance(value, msgspec.Struct):
        return any(_filled(getattr(value, name)) for name in value.__struct_fields__)
    return value is not None and value != "" and value != () and value != [] and value != {}
