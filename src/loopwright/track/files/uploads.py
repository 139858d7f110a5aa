"""Uploads in parts: begun, filled in any order by whoever knows the secret, then joined to one file or forgotten."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, BinaryIO

from sqlalchemy import Connection, Row, delete, insert, select

from loopwright.core import Conflict, Invalid, NotFound, Scope, digest_bytes, new_id
from loopwright.store import Database, ObjectStore, Stores
from loopwright.track.files.model import Part, Upload
from loopwright.track.files.tables import upload_parts, uploads

MAX_PARTS = 10_000
_STALE = timedelta(days=7)
_STALE_AT_ONCE = 100


def begin(stores: Stores, tx: Connection, scope: Scope, owner: str, path: str, parts: int) -> Upload:
    """Note an upload down; those that nobody has completed for a week are forgotten.

    Raises:
        Invalid: there are no parts, or too many.
    """
    if not 0 < parts <= MAX_PARTS:
        raise Invalid(f"an upload cannot have {parts} parts", next_step=f"use 1 to {MAX_PARTS:,}")
    now, secret = stores.clock.now(), secrets.token_hex(32)
    _forget_stale(tx, now - _STALE)
    made = Upload(new_id(), owner, path, parts, now, secret)
    row = {"id": made.id, "project": scope.project, "owner": owner, "path": path, "parts": parts}
    kept = {"secret": _marked(secret), "actor": scope.actor, "created_at": now}
    tx.execute(insert(uploads).values(**row, **kept))
    return made


def check_part(connection: Connection, upload: str, secret: str, number: int) -> None:
    """Refuse a part that is not its uploader's.

    Raises:
        NotFound: there is no such upload, or the secret is not its own.
        Invalid: it has no part of that number.
    """
    row = connection.execute(select(uploads).where(uploads.c.id == upload)).one_or_none()
    if row is None or not hmac.compare_digest(row.secret, _marked(secret)):
        raise _unknown(upload)
    if not 1 <= number <= row.parts:
        raise Invalid(f"the upload has no part {number}; it has {row.parts}")


def keep_part(database: Database, tx: Connection, upload: str, number: int, digest: str, size_bytes: int) -> None:
    """Note a part down; one of the same number is replaced."""
    row = {"upload": upload, "number": number, "digest": digest, "size_bytes": size_bytes}
    tx.execute(database.upsert(upload_parts, row, ["upload", "number"], ["digest", "size_bytes"]))


def ready_parts(
    connection: Connection, project: str, owner: str, path: str, upload: str, named: Sequence[Part]
) -> list[str]:
    """The digests of an upload's parts in order, if all are there as named.

    Raises:
        NotFound: there is no such upload of this file.
        Conflict: a part is missing or another than was named.
    """
    row = _find(connection, project, owner, path, upload)
    if row is None:
        raise _unknown(upload)
    query = select(upload_parts.c.number, upload_parts.c.digest).where(upload_parts.c.upload == upload)
    held: dict[int, str] = {row.number: row.digest for row in connection.execute(query)}
    told = {part.number: part.digest for part in named}
    wrong = next((number for number in range(1, row.parts + 1) if held.get(number, "") != told.get(number)), None)
    if wrong is not None or len(told) != row.parts:
        raise Conflict(
            f"part {wrong or max(told)} of the upload is not there as it was named", next_step="send that part again"
        )
    return [held[number] for number in sorted(held)]


def forget(tx: Connection, project: str, owner: str, path: str, upload: str) -> None:
    """Forget an upload and its parts; the parts' bytes are then nobody's, and `loopwright gc` removes them."""
    if _find(tx, project, owner, path, upload) is not None:
        _forget_all(tx, [upload])


def _find(connection: Connection, project: str, owner: str, path: str, upload: str) -> Row[Any] | None:
    columns = uploads.c
    where = (columns.id == upload, columns.project == project, columns.owner == owner, columns.path == path)
    return connection.execute(select(uploads).where(*where)).one_or_none()


def _forget_stale(tx: Connection, before: Any) -> None:
    query = select(uploads.c.id).where(uploads.c.created_at < before).order_by(uploads.c.created_at)
    _forget_all(tx, list(tx.execute(query.limit(_STALE_AT_ONCE)).scalars()))


def _forget_all(tx: Connection, ids: Sequence[str]) -> None:
    if ids:
        tx.execute(delete(upload_parts).where(upload_parts.c.upload.in_(ids)))
        tx.execute(delete(uploads).where(uploads.c.id.in_(ids)))


def _marked(secret: str) -> str:
    """What is kept of a secret."""
    return digest_bytes(secret.encode())


def _unknown(upload: str) -> NotFound:
    return NotFound(f"there is no upload {upload[:60]!r}", next_step="begin a new one")


class Joined:
    """Objects one after the other as one stream. Use it in a `with`."""

    def __init__(self, objects: ObjectStore, digests: Sequence[str]) -> None:
        self._objects, self._left = objects, list(digests)
        self._open: BinaryIO | None = None

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; none at the end of the last object."""
        while True:
            if self._open is None:
                if not self._left:
                    return b""
                self._open = self._objects.open(self._left.pop(0))
            data = self._open.read(size)
            if data:
                return data
            self._open.close()
            self._open = None

    def close(self) -> None:
        """Close the object that is open."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def __enter__(self) -> Joined:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
