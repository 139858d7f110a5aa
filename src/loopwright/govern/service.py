"""What one can ask about tokens. An admin of a project rules over roles in that project; an admin of the whole
workspace (the project `*`) over all."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import select

from loopwright.core import Clock, Effect, Invalid, NotFound, Scope, SystemClock, check_name, operation
from loopwright.govern import rows, tables
from loopwright.govern.model import EVERY_PROJECT, NewToken, Role, Token
from loopwright.store import Stores


class TokenService:
    """Makes, changes, lists and ends tokens in the scope's project. Times are the machine's, not a replay's."""

    def __init__(self, stores: Stores, scope: Scope, clock: Clock | None = None) -> None:
        self.stores, self.scope, self.clock = stores, scope, clock or SystemClock()

    @operation("tokens.create", permission="tokens:admin", effect=Effect.WRITE)
    def create(self, user: str, role: Role, note: str = "", valid_days: int | None = 90) -> NewToken:
        """Make a token for a user; its secret is shown in the answer and never again.

        Args:
            user: whose it is; events name `user:<user>` as their actor.
            role: what it may do in this project.
            note: what it is for.
            valid_days: days until it ends; None for a token without an end.

        Raises:
            Invalid: the user's name or the number of days is not usable.
        """
        check_name("user", user)
        if valid_days is not None and not 1 <= valid_days <= 3650:
            raise Invalid(f"valid_days is {valid_days}", where="valid_days", next_step="use 1 to 3650, or null")
        now = self.clock.now()
        expires_at = None if valid_days is None else now + timedelta(days=valid_days)
        project = self.scope.project
        with self.stores.db.begin() as tx:
            made = rows.make(
                tx,
                user=user,
                note=note,
                project=project,
                role=role,
                by=self.scope.actor,
                now=now,
                expires_at=expires_at,
            )
            if project == EVERY_PROJECT and role is Role.ADMIN:
                rows.revoke_first(tx, now)
            evidence = {"token": made.token.id, "role": role, "project": project, "expires_at": expires_at}
            self.stores.events.append(tx, "token.created", f"user:{user}", self.scope, evidence)
        return made

    @operation("tokens.grant", permission="tokens:admin", effect=Effect.WRITE)
    def grant(self, token: str, role: Role) -> Token:
        """Give a token a role in this project, in place of the one that it has here.

        Raises:
            NotFound: there is no such token.
            Invalid: it is revoked.
        """
        with self.stores.db.begin() as tx:
            found = rows.find(tx, token)
            if found.revoked_at is not None:
                raise Invalid(f"token {token} is revoked", next_step="make a new one with tokens.create")
            rows.set_role(tx, token, self.scope.project, role)
            if self.scope.project == EVERY_PROJECT and role is Role.ADMIN and not found.first:
                rows.revoke_first(tx, self.clock.now())
            evidence = {"token": token, "role": role, "project": self.scope.project}
            self.stores.events.append(tx, "token.granted", f"user:{found.user}", self.scope, evidence)
            return self._seen(rows.find(tx, token))

    @operation("tokens.revoke", permission="tokens:admin", effect=Effect.WRITE)
    def revoke(self, token: str) -> Token:
        """Take a token's role in this project away; a token without any role left ends, and its sessions with it.

        Raises:
            NotFound: there is no such token, or it has no role here.
        """
        project, now = self.scope.project, self.clock.now()
        with self.stores.db.begin() as tx:
            found = rows.find(tx, token)
            if project != EVERY_PROJECT and project not in found.roles:
                raise NotFound(f"token {token!r} has no role in project {project!r}", next_step="see tokens.list")
            if project != EVERY_PROJECT:
                rows.remove_role(tx, token, project)
            if project == EVERY_PROJECT or len(found.roles) == 1:
                rows.revoke(tx, token, now)
            evidence = {"token": token, "project": project}
            self.stores.events.append(tx, "token.revoked", f"user:{found.user}", self.scope, evidence)
            return self._seen(rows.find(tx, token))

    @operation("tokens.list", permission="tokens:admin")
    def list(self, limit: int = 100, after: str = "") -> tuple[Token, ...]:
        """The tokens with a role in this project, newest first.

        Args:
            limit: at most so many, up to 1000.
            after: the id of the last token of the page before.
        """
        ids = select(tables.tokens.c.id).order_by(tables.tokens.c.id.desc()).limit(min(max(limit, 1), 1000))
        if after:
            ids = ids.where(tables.tokens.c.id < after)
        if self.scope.project != EVERY_PROJECT:
            here = tables.token_roles.c.project == self.scope.project
            ids = ids.where(tables.tokens.c.id.in_(select(tables.token_roles.c.token_id).where(here)))
        with self.stores.db.read() as tx:
            found = tx.execute(rows.joined().where(tables.tokens.c.id.in_(ids)).order_by(tables.tokens.c.id.desc()))
            return tuple(self._seen(token) for token in rows.tokens_from(found))

    def _seen(self, token: Token) -> Token:
        """The token as an admin of this project may see it: without its roles elsewhere."""
        if self.scope.project == EVERY_PROJECT:
            return token
        roles = {name: role for name, role in token.roles.items() if name == self.scope.project}
        return Token(
            token.id,
            token.user,
            token.note,
            roles,
            token.created_at,
            token.created_by,
            token.expires_at,
            token.revoked_at,
            token.first,
        )
