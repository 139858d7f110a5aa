"""A connection to SQLite that is kept open and never waits: for small writes on a thread that must not be held up.

It asks for the write lock and takes no for an answer, never waits for the disk, and leaves copying the write-ahead log
into the database to those writers that do. SQLAlchemy's pool and its own begin and commit are passed by: together they
cost more than a small write.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from sqlalchemy import URL, Connection, Engine
from sqlalchemy.pool import PoolProxiedConnection

from loopwright.store.db.engines import make_swift_engine


class SwiftWriter:
    """Belongs to one thread at a time; its caller sees to that. The connection is made by the first write."""

    def __init__(self, url: URL) -> None:
        self._engine: Engine = make_swift_engine(url)
        self._connection: Connection | None = None
        self._cursor: sqlite3.Cursor | None = None

    @contextmanager
    def begin(self) -> Iterator[Connection | None]:
        """A write transaction, or None where another process writes.

        Raises:
            sqlite3.Error: the database does not take it.
        """
        connection = self._connection or self._engine.connect()
        self._connection, driver = connection, connection.connection
        if not _is_writer(driver.cursor()):
            yield None
            return
        try:
            yield connection
            _end(connection, driver, commit=True)
        except BaseException:
            _end(connection, driver, commit=False)
            self.close()
            raise

    def run(self, work: Callable[[sqlite3.Cursor], bool]) -> bool:
        """A write transaction for a few statements, without anything of SQLAlchemy's around them.

        Args:
            work: says whether what it did is to be committed.

        Returns:
            Whether it was. False where `work` said no, and where another process writes.

        Raises:
            sqlite3.Error: the database does not take it; nothing was stored.
        """
        cursor = self._cursor or self._opened()
        try:
            if not _is_writer(cursor):
                return False
            done = work(cursor)
            cursor.execute("COMMIT" if done else "ROLLBACK")
            return done
        except BaseException:
            self.close()  # which undoes what was not committed
            raise

    def _opened(self) -> sqlite3.Cursor:
        self._connection = connection = self._connection or self._engine.connect()
        driver: Any = connection.connection.driver_connection
        self._cursor = cursor = driver.cursor()
        return cast(sqlite3.Cursor, cursor)

    def close(self) -> None:
        """Close the connection; the next write makes another."""
        kept, self._connection, self._cursor = self._connection, None, None
        if kept is not None:
            kept.close()
        self._engine.dispose()


def _is_writer(cursor: Any) -> bool:
    """Begin a transaction; False where another process writes."""
    try:
        cursor.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if (error.sqlite_errorcode & 0xFF) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return False
        raise
    return True


def _end(connection: Connection, driver: PoolProxiedConnection, *, commit: bool) -> None:
    """End the transaction; SQLAlchemy knows of it only where a statement went through it."""
    if connection.in_transaction():
        (connection.commit if commit else connection.rollback)()
    elif commit:
        driver.commit()
    else:
        driver.rollback()
