"""Reading and writing token rows; every function works inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, and_, delete, insert, or_, select, update

from loopwright.core import Invalid, NotFound, new_id
from loopwright.govern import tables
from loopwright.govern.model import EVERY_PROJECT, NewToken, Role, Token
from loopwright.govern.secrets import digest_of, secret_of

_COLUMNS = (*(column for column in tables.tokens.c), tables.token_roles.c.project, tables.token_roles.c.role)


def joined() -> Select[Any]:
    """Tokens with one row per role."""
    return select(*_COLUMNS).select_from(tables.tokens.outerjoin(tables.token_roles))


def tokens_from(rows: Iterable[Any]) -> list[Token]:
    """The tokens behind joined rows, in the order of their first rows."""
    roles: dict[str, dict[str, Role]] = {}
    firsts: dict[str, Any] = {}
    for row in rows:
        firsts.setdefault(row.id, row)
        found = roles.setdefault(row.id, {})
        if row.project is not None:
            found[row.project] = Role(row.role)
    return [_token(row, roles[identifier]) for identifier, row in firsts.items()]


def _token(row: Any, roles: dict[str, Role]) -> Token:
    return Token(
        row.id,
        row.user_name,
        row.note,
        roles,
        row.created_at,
        row.created_by,
        row.expires_at,
        row.revoked_at,
        bool(row.first),
    )


def usable(now: datetime) -> Any:
    """The condition that a token is neither revoked nor expired."""
    expires_at = tables.tokens.c.expires_at
    return and_(tables.tokens.c.revoked_at.is_(None), or_(expires_at.is_(None), expires_at > now))


def find(connection: Connection, token_id: str) -> Token:
    """The token with that id.

    Raises:
        NotFound: there is none.
    """
    found = tokens_from(connection.execute(joined().where(tables.tokens.c.id == token_id)))
    if not found:
        raise NotFound(f"there is no token {token_id!r}", next_step="list them with tokens.list")
    return found[0]


def make(
    connection: Connection,
    *,
    user: str,
    note: str,
    project: str,
    role: Role,
    by: str,
    now: datetime,
    expires_at: datetime | None,
    first: bool = False,
) -> NewToken:
    """Insert a token with one role.

    Raises:
        Invalid: the note is too long.
    """
    if len(note) > 256:
        raise Invalid(f"the note has {len(note)} characters", where="note", next_step="use at most 256")
    identifier = new_id()
    secret = secret_of(identifier)
    connection.execute(
        insert(tables.tokens).values(
            id=identifier,
            user_name=user,
            note=note,
            secret_digest=digest_of(secret),
            created_at=now,
            created_by=by,
            expires_at=expires_at,
            first=first,
        )
    )
    connection.execute(insert(tables.token_roles).values(token_id=identifier, project=project, role=role))
    return NewToken(find(connection, identifier), secret)


def set_role(connection: Connection, token_id: str, project: str, role: Role) -> None:
    """Give a token a role in a project in place of the one that it had there."""
    remove_role(connection, token_id, project)
    connection.execute(insert(tables.token_roles).values(token_id=token_id, project=project, role=role))


def remove_role(connection: Connection, token_id: str, project: str) -> None:
    """Take a token's role in a project away."""
    condition = and_(tables.token_roles.c.token_id == token_id, tables.token_roles.c.project == project)
    connection.execute(delete(tables.token_roles).where(condition))


def revoke(connection: Connection, token_id: str, now: datetime) -> None:
    """End a token and the sessions opened with it."""
    connection.execute(delete(tables.token_sessions).where(tables.token_sessions.c.token_id == token_id))
    connection.execute(update(tables.tokens).where(tables.tokens.c.id == token_id).values(revoked_at=now))


def revoke_first(connection: Connection, now: datetime) -> None:
    """End the tokens that were printed at a first start."""
    found = select(tables.tokens.c.id).where(tables.tokens.c.first, tables.tokens.c.revoked_at.is_(None))
    for token_id in connection.execute(found).scalars().all():
        revoke(connection, token_id, now)


def has_admin(connection: Connection, now: datetime) -> bool:
    """Whether a usable token administers the whole workspace."""
    roles = tables.token_roles
    condition = and_(usable(now), roles.c.project == EVERY_PROJECT, roles.c.role == Role.ADMIN)
    found = select(tables.tokens.c.id).select_from(tables.tokens.join(roles)).where(condition).limit(1)
    return connection.execute(found).first() is not None
