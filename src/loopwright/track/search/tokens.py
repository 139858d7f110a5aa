"""Page tokens: where a page ended, sealed so that only this workspace can make one, and only for the same search."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import threading
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
from sqlalchemy import Connection, select

from loopwright.core import Invalid, digest_value
from loopwright.store import Database
from loopwright.track.tables import search_secrets

_SEAL_BYTES = 16
_NAME = "page tokens"
_MAX_TOKEN = 100_000
_known: WeakKeyDictionary[Database, bytes] = WeakKeyDictionary()
_lock = threading.Lock()


class Tokens:
    """Makes and reads the tokens of one search, named by all that it asked for."""

    def __init__(self, database: Database, asked: Sequence[Any]) -> None:
        self._database = database
        self._search = bytes.fromhex(digest_value(list(asked)))[:_SEAL_BYTES]

    def write(self, connection: Connection, place: Sequence[Any]) -> str:
        """The token for a place: plain values, in the order of the search's columns."""
        body = msgspec.msgpack.encode(list(place))
        return base64.urlsafe_b64encode(self._seal(connection, body) + body).rstrip(b"=").decode()

    def read(self, connection: Connection, token: str) -> list[Any]:
        """The place in a token.

        Raises:
            Invalid: nobody here made it, or it belongs to another search.
        """
        raw = _decoded(token)
        seal, body = raw[:_SEAL_BYTES], raw[_SEAL_BYTES:]
        if not hmac.compare_digest(seal, self._seal(connection, body)):
            raise refused()
        return msgspec.msgpack.decode(body, type=list[Any])

    def _seal(self, connection: Connection, body: bytes) -> bytes:
        key = _secret(self._database, connection)
        return hashlib.blake2b(self._search + body, key=key, digest_size=_SEAL_BYTES).digest()


def _decoded(token: str) -> bytes:
    if not token.isascii() or len(token) > _MAX_TOKEN:
        raise refused()
    try:
        return base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise refused() from None


def refused() -> Invalid:
    """The error for a token that leads nowhere."""
    return Invalid(
        "the page token is not one that this search gave out",
        next_step="start again from the first page, with the same filter and order on every page",
    )


def _secret(database: Database, connection: Connection) -> bytes:
    with _lock:
        found = _known.get(database)
    if found is None:
        found = _stored(connection) or _made(database)
        with _lock:
            _known[database] = found
    return found


def _stored(connection: Connection) -> bytes | None:
    columns = search_secrets.c
    text = connection.execute(select(columns.secret).where(columns.name == _NAME)).scalar_one_or_none()
    return None if text is None else bytes.fromhex(text)


def _made(database: Database) -> bytes:
    """The first token of a workspace makes its secret; of several processes that do so at once, one wins."""
    with database.begin() as tx:
        row = {"name": _NAME, "secret": secrets.token_hex(32)}
        tx.execute(database.upsert(search_secrets, row, ["name"]))
        found = _stored(tx)
    if found is None:
        raise Invalid("the secret of page tokens could not be kept")
    return found
