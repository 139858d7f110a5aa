"""The words of access control: who acts, with which role in which project, proven by which token."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec

EVERY_PROJECT = "*"
"""In place of a project's name: the whole workspace."""

LOCAL_ACTOR = "user:local"


class Role(StrEnum):
    """What somebody may do in a project. Each role may do all that the ones before it may."""

    VIEWER = "viewer"
    EDITOR = "editor"
    ADMIN = "admin"


class Identity(msgspec.Struct, frozen=True):
    """Somebody whom the server knows: the actor, the roles by project, and the token that proved it (empty if none)."""

    actor: str
    roles: dict[str, Role]
    token: str = ""


class Token(msgspec.Struct, frozen=True):
    """A token as one may look at it: never its secret, nor the secret's digest."""

    id: str
    user: str
    note: str
    roles: dict[str, Role]
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    first: bool = False


class NewToken(msgspec.Struct, frozen=True):
    """A token that was just made. This is the only time that the secret can be read."""

    token: Token
    secret: str


class Session(msgspec.Struct, frozen=True):
    """A browser's session: `cookie` proves it, `csrf` must come with each change, both are random."""

    cookie: str
    csrf: str
    identity: Identity
    expires_at: datetime


def local_identity() -> Identity:
    """The person at this machine in local mode, who may do everything."""
    return Identity(LOCAL_ACTOR, {EVERY_PROJECT: Role.ADMIN})
