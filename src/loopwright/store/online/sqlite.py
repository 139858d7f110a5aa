"""The online store of an embedded workspace: one SQLite file."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from loopwright.core import Corrupt, LoopwrightError, Unavailable
from loopwright.store.online.model import Row
from loopwright.store.online.times import microseconds, moment

_CREATE = """
CREATE TABLE IF NOT EXISTS online_rows (
    view TEXT NOT NULL, key TEXT NOT NULL, at INTEGER NOT NULL, payload BLOB NOT NULL, PRIMARY KEY (view, key)
) WITHOUT ROWID
"""
_WRITE = """
INSERT INTO online_rows (view, key, at, payload) VALUES (?, ?, ?, ?)
ON CONFLICT (view, key) DO UPDATE SET at = excluded.at, payload = excluded.payload WHERE excluded.at >= online_rows.at
"""
_READ_KEYS = 1000  # per statement; SQLite's own bound on parameters is 32,766
_BUSY_S = 30.0


class SqliteOnlineStore:
    """Rows in a SQLite file in WAL mode; one connection per thread. The file is made by the first use."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._lock = threading.Lock()
        self._open: list[sqlite3.Connection] = []

    def __repr__(self) -> str:
        return f"SqliteOnlineStore({str(self.path)!r})"

    def write(self, view: str, rows: Mapping[str, Row]) -> None:
        values = [(view, key, microseconds(at), payload) for key, (at, payload) in rows.items()]
        if not values:
            return
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.executemany(_WRITE, values)
                connection.execute("COMMIT")
            except BaseException:
                connection.execute("ROLLBACK")
                raise

    def read(self, view: str, keys: Sequence[str]) -> list[Row | None]:
        rows: dict[str, Row] = {}
        with self._connection() as connection:
            for start in range(0, len(keys), _READ_KEYS):
                part = keys[start : start + _READ_KEYS]
                for key, at, payload in connection.execute(_read(len(part)), (view, *part)):
                    rows[key] = (moment(at), payload)
        return [rows.get(key) for key in keys]

    def delete(self, view: str) -> None:
        with self._connection() as connection:
            connection.execute("DELETE FROM online_rows WHERE view = ?", (view,))

    def count(self, view: str) -> int:
        with self._connection() as connection:
            row = connection.execute("SELECT count(*) FROM online_rows WHERE view = ?", (view,)).fetchone()
        return int(row[0])

    def check(self) -> list[str]:
        """What the engine finds wrong with the file; empty if nothing, or if there is no file yet."""
        if not self.path.exists():
            return []
        try:
            with self._connection() as connection:
                found = [str(row[0]) for row in connection.execute("PRAGMA quick_check").fetchall()]
        except LoopwrightError as error:
            return [error.message]
        return [] if found == ["ok"] else found

    def close(self) -> None:
        with self._lock:
            connections, self._open = self._open, []
            self._local = threading.local()
        for connection in connections:
            connection.close()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._connect()
                self._local.connection = connection
            yield connection
        except sqlite3.DatabaseError as error:
            raise self._said(error) from error
        except OSError as error:
            raise Unavailable(f"the online store {self.path} cannot be made: {error.strerror}") from error

    def _connect(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        with self._lock:
            self._open.append(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(_CREATE)
        return connection

    def _said(self, error: sqlite3.DatabaseError) -> LoopwrightError:
        # OperationalError is a DatabaseError too: locked, full, read-only. Damage is the plain class.
        if isinstance(error, sqlite3.OperationalError):
            return Unavailable(f"the online store {self.path} does not take part: {error}", next_step="try again")
        return Corrupt(
            f"the online store {self.path} is damaged: {error}",
            next_step="remove the file and materialise the feature views again",
        )


def _read(keys: int) -> str:
    return f"SELECT key, at, payload FROM online_rows WHERE view = ? AND key IN ({','.join('?' * keys)})"  # noqa: S608  (only question marks)
