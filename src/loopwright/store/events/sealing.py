"""Sealing and verifying: the rows behind the hash chain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import BigInteger, Connection, Select, Text, bindparam, select, type_coerce

from loopwright.store.events.chain import Break, Head, Link, extend, follow
from loopwright.store.events.tables import chain, events

_BATCH = 2_000
_ONLY_ROW = 1


def has_unsealed(connection: Connection) -> bool:
    """Whether an event waits for its position."""
    query = select(events.c.id).where(events.c.position.is_(None)).limit(1)
    return connection.execute(query).first() is not None


def seal(tx: Connection, limit: int) -> int:
    """Extend the chain by up to `limit` unsealed events, oldest id first. The caller holds the chain's lock."""
    links = _links(tx, _select_links().where(events.c.position.is_(None)).order_by(events.c.id).limit(limit))
    if not links:
        return 0
    head = stored_head(tx)
    ends = extend(head or Head(), links)
    tx.execute(
        events.update().where(events.c.id == bindparam("event_id")).values(position=bindparam("at_position")),
        [
            {"event_id": link.id, "at_position": end.position, "hash": end.hash}
            for link, end in zip(links, ends, strict=True)
        ],
    )
    last = {"position": ends[-1].position, "hash": ends[-1].hash}
    tx.execute(chain.insert().values(id=_ONLY_ROW, **last) if head is None else chain.update().values(**last))
    return len(links)


def stored_head(connection: Connection) -> Head | None:
    """Where the chain ends according to its own row; None before the first seal."""
    row = connection.execute(select(chain.c.position, chain.c.hash)).one_or_none()
    return None if row is None else Head(row.position, row.hash)


def walk(connection: Connection) -> tuple[Head, Break | None]:
    """Follow the chain from its start: the last good end, and the first break."""
    head, fault = Head(), None
    for batch in _batches(connection):
        head, fault = follow(head, batch)
        if fault is not None:
            return head, fault
    return head, _missing_end(connection, head)


def _missing_end(connection: Connection, head: Head) -> Break | None:
    stored = stored_head(connection) or Head()
    if stored == head:
        return None
    if stored.position > head.position:
        return Break(None, f"the newest events are missing: position {head.position + 1} to {stored.position}")
    return Break(None, f"the chain's end is noted at position {stored.position}, but events go on to {head.position}")


def _batches(connection: Connection) -> Iterator[list[Link]]:
    after = -(1 << 62)
    while True:
        query = _select_links().where(events.c.position > after).order_by(events.c.position).limit(_BATCH)
        links = _links(connection, query)
        if not links:
            return
        yield links
        after = links[-1].position or 0


def _select_links() -> Select[Any]:
    return select(
        events.c.id,
        events.c.kind,
        type_coerce(events.c.at, BigInteger).label("at"),
        type_coerce(events.c.recorded_at, BigInteger).label("recorded_at"),
        events.c.project,
        events.c.actor,
        events.c.subject,
        events.c.cause,
        type_coerce(events.c.evidence, Text).label("evidence"),
        events.c.position,
        events.c.hash,
    )


def _links(connection: Connection, query: Select[Any]) -> list[Link]:
    return [Link(**row._mapping) for row in connection.execute(query)]
