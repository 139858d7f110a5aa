"""Who stands behind a secret or a cookie."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import delete, insert, select

from loopwright.core import Clock, Scope, SystemClock, Unauthorized
from loopwright.govern import rows, tables
from loopwright.govern.model import EVERY_PROJECT, Identity, NewToken, Role, Session, Token
from loopwright.govern.secrets import digest_of, matches, random_secret, token_id_of
from loopwright.store import Stores

FIRST_TOKEN_LIFE = timedelta(hours=24)
SESSION_LIFE = timedelta(hours=12)
FIRST_USER = "admin"


class Authenticator:
    """Judges secrets and cookies. Nothing is cached: a revoked token is refused from the next request on.

    Thread-safe. Times are the machine's, not a replay's.
    """

    def __init__(self, stores: Stores, clock: Clock | None = None) -> None:
        self.stores, self.clock = stores, clock or SystemClock()

    def identify(self, secret: str) -> Identity:
        """The identity that a token proves.

        Raises:
            Unauthorized: the token is malformed, unknown, revoked or expired; which one is not said.
        """
        return _identity(self._token(secret))

    def open_session(self, secret: str) -> Session:
        """A session of at most 12 hours for a browser that proved itself with a token.

        Raises:
            Unauthorized: as `identify`.
        """
        token, now = self._token(secret), self.clock.now()
        ends = min(now + SESSION_LIFE, token.expires_at or now + SESSION_LIFE)
        cookie, csrf = random_secret(), random_secret()
        with self.stores.db.begin() as tx:
            tx.execute(delete(tables.token_sessions).where(tables.token_sessions.c.expires_at <= now))
            values = {"token_id": token.id, "csrf": csrf, "created_at": now, "expires_at": ends}
            tx.execute(insert(tables.token_sessions).values(cookie_digest=digest_of(cookie), **values))
        return Session(cookie, csrf, _identity(token), ends)

    def session(self, cookie: str) -> Session | None:
        """The session behind a cookie; None if there is none, or it or its token has ended."""
        now, sessions = self.clock.now(), tables.token_sessions
        query = (
            rows.joined()
            .add_columns(sessions.c.csrf, sessions.c.expires_at.label("session_ends"))
            .join(sessions, sessions.c.token_id == tables.tokens.c.id)
            .where(sessions.c.cookie_digest == digest_of(cookie), sessions.c.expires_at > now, rows.usable(now))
        )
        with self.stores.db.read() as tx:
            found = tx.execute(query).all()
        if not found:
            return None
        identity = _identity(rows.tokens_from(found)[0])
        return Session(cookie, found[0].csrf, identity, found[0].session_ends)

    def close_session(self, cookie: str) -> None:
        """End a session; one that does not exist is no error."""
        with self.stores.db.begin() as tx:
            tx.execute(delete(tables.token_sessions).where(tables.token_sessions.c.cookie_digest == digest_of(cookie)))

    def first_token(self) -> NewToken | None:
        """A token that administers the whole workspace, if no usable token does; else None.

        It ends after 24 hours, or as soon as another token administers the workspace. Two servers that start at the
        same moment on a shared database may each print one.
        """
        now, scope = self.clock.now(), Scope(EVERY_PROJECT, "system:server", "")
        with self.stores.db.begin() as tx:
            if rows.has_admin(tx, now):
                return None
            made = rows.make(
                tx,
                user=FIRST_USER,
                note="printed at the first start",
                project=EVERY_PROJECT,
                role=Role.ADMIN,
                by=scope.actor,
                now=now,
                expires_at=now + FIRST_TOKEN_LIFE,
                first=True,
            )
            evidence = {"token": made.token.id, "role": Role.ADMIN, "project": EVERY_PROJECT, "first": True}
            self.stores.events.append(tx, "token.created", f"user:{FIRST_USER}", scope, evidence)
        return made

    def _token(self, secret: str) -> Token:
        token_id = token_id_of(secret)
        if token_id is not None:
            query = rows.joined().where(tables.tokens.c.id == token_id, rows.usable(self.clock.now()))
            kept = select(tables.tokens.c.secret_digest).where(tables.tokens.c.id == token_id)
            with self.stores.db.read() as tx:
                digest, found = tx.execute(kept).scalar(), rows.tokens_from(tx.execute(query))
            if found and digest is not None and matches(secret, digest):
                return found[0]
        raise Unauthorized(
            "the token is not valid, or has ended", next_step="ask an admin for a new one (loopwright tokens create)"
        )


def _identity(token: Token) -> Identity:
    return Identity(f"user:{token.user}", token.roles, token.id)
