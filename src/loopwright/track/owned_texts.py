"""Texts by key that belong to one thing, a logged model or a trace: its params, tags, metadata.

Each kind has a table of its own, whose first column says to whom a text belongs. `head` is the beginning of the value,
which searches find by an index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Column, Connection, Index, String, Table, delete, select

from loopwright.store import Database, LongText, metadata, ordered
from loopwright.track.values import check_key, check_text, head_of

CHUNK = 500
"""How many ids one statement names."""


def texts_table(name: str, owner: str) -> Table:
    """A table of texts, whose owners' ids stand in the column `owner`."""
    return Table(
        name,
        metadata,
        Column(owner, String(64), primary_key=True),
        Column("key", ordered(250), primary_key=True),
        Column("value", LongText, nullable=False),
        Column("head", ordered(100), nullable=False),
        Index(f"ix_{name}_head", "key", "head", owner),
        sqlite_with_rowid=False,
    )


def write_texts(
    database: Database, tx: Connection, table: Table, owner: str, noun: str, texts: Mapping[str, str]
) -> None:
    """Set texts of one owner; `noun` is what they are called in a refusal.

    Raises:
        Invalid: a key or a value cannot be stored.
    """
    for key, text in texts.items():
        check_text(noun, check_key(noun, key), text)
    name = table.c[0].name
    rows = [{name: owner, "key": key, "value": text, "head": head_of(text)} for key, text in sorted(texts.items())]
    if rows:
        tx.execute(database.upsert(table, {}, [name, "key"], ["value", "head"]), rows)


def delete_text(tx: Connection, table: Table, owner: str, key: str) -> bool:
    """Take a text away; whether it was there."""
    return tx.execute(delete(table).where(table.c[0] == owner, table.c.key == key)).rowcount == 1


def read_texts(connection: Connection, table: Table, owners: Sequence[str]) -> dict[str, dict[str, str]]:
    """The texts of each owner that has any, by key in order."""
    found: dict[str, dict[str, str]] = {}
    owner = table.c[0]
    for start in range(0, len(owners), CHUNK):
        query = select(owner, table.c.key, table.c.value).where(owner.in_(owners[start : start + CHUNK]))
        for name, key, value in connection.execute(query.order_by(table.c.key)):
            found.setdefault(name, {})[key] = value
    return found
