"""May this identity do this in this project? Pure functions of values."""

from __future__ import annotations

from loopwright.core import Forbidden, Invalid, Unauthorized
from loopwright.govern.model import EVERY_PROJECT, Identity, Role

LEVELS: dict[str, Role] = {"read": Role.VIEWER, "write": Role.EDITOR, "admin": Role.ADMIN}
"""The weakest role that each level of a permission asks for."""

PUBLIC = "public"
"""The permission of what anybody may ask for without a token: a health check, the sign-in page, a style sheet."""

_STRENGTH = {role: strength for strength, role in enumerate(Role)}


def check_permission(permission: str) -> str:
    """`permission`, if it is well formed: `room:read`, `room:write`, `room:admin` or `public`.

    Raises:
        Invalid: it is not.
    """
    room, _, level = permission.partition(":")
    if permission == PUBLIC or (room.isidentifier() and level in LEVELS):
        return permission
    raise Invalid(
        f"{permission!r} is not a permission", next_step=f"use room:level with a level of {', '.join(LEVELS)}"
    )


def role_in(identity: Identity, project: str) -> Role | None:
    """The strongest role that the identity has in a project, by itself or through the whole workspace."""
    roles = [identity.roles[name] for name in (project, EVERY_PROJECT) if name in identity.roles]
    return max(roles, key=_STRENGTH.__getitem__, default=None)


def allows(role: Role | None, permission: str) -> bool:
    """Whether a role suffices for a permission.

    Raises:
        Invalid: the permission is malformed.
    """
    if check_permission(permission) == PUBLIC:
        return True
    return role is not None and _STRENGTH[role] >= _STRENGTH[LEVELS[permission.partition(":")[2]]]


def authorise(identity: Identity | None, permission: str, project: str) -> None:
    """Return if the identity (None: nobody is known) may use the permission in the project.

    Raises:
        Unauthorized: it takes somebody known, and nobody is.
        Forbidden: the identity's role there does not suffice.
    """
    if check_permission(permission) == PUBLIC:
        return
    if identity is None:
        raise Unauthorized(
            "this needs a token", next_step="send the header 'Authorization: Bearer TOKEN', or sign in at /login"
        )
    role = role_in(identity, project)
    if allows(role, permission):
        return
    needed = LEVELS[permission.partition(":")[2]]
    where = "the whole workspace" if project == EVERY_PROJECT else f"project {project!r}"
    has = f"is {role}" if role else "has no role"
    raise Forbidden(
        f"{identity.actor} {has} in {where}; {permission} needs {needed}",
        next_step=f"ask an admin of {where} for the role {needed}",
    )
