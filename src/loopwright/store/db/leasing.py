"""Leases: rows that say who may act, judged by the database's own clock so that machines need not agree on time."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, cast, func, literal_column, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from loopwright.store.db.schema import leases

_SECOND_US = 1_000_000


def _now_us(connection: Connection) -> ColumnElement[int]:
    if connection.dialect.name == "sqlite":
        return literal_column("CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)", BigInteger)
    return cast(func.extract("epoch", func.clock_timestamp()) * _SECOND_US, BigInteger)


def standing(connection: Connection, name: str, holder: str, ttl_s: float) -> bool | None:
    """Whether `holder` clearly has the lease (True), another clearly has it (False), or it must be written (None)."""
    left = (leases.c.expires_at_us - _now_us(connection)).label("left_us")
    row = connection.execute(select(leases.c.holder, left).where(leases.c.name == name)).one_or_none()
    if row is None or row.left_us <= 0:
        return None
    if row.holder != holder:
        return False
    return True if row.left_us > ttl_s * _SECOND_US / 2 else None


def take(tx: Connection, name: str, holder: str, ttl_s: float) -> bool:
    """Write the lease in one statement, unless another holds it."""
    now = _now_us(tx)
    values: dict[str, Any] = {"name": name, "holder": holder, "expires_at_us": now + int(ttl_s * _SECOND_US)}
    free = or_(leases.c.holder == holder, leases.c.expires_at_us <= now)
    insert = sqlite.insert(leases) if tx.dialect.name == "sqlite" else postgresql.insert(leases)
    insert = insert.values(values)
    changes = {name: insert.excluded[name] for name in ("holder", "expires_at_us")}
    insert = insert.on_conflict_do_update(index_elements=["name"], set_=changes, where=free)
    return tx.execute(insert.returning(leases.c.name)).first() is not None


def release(tx: Connection, name: str, holder: str) -> None:
    """Delete the lease, if `holder` has it."""
    tx.execute(leases.delete().where(leases.c.name == name, leases.c.holder == holder))
