"""SQLAlchemy engines for the two databases, set up so that both keep the same promises.

SQLite runs in WAL mode with `synchronous=FULL`: a commit that returned survives kill -9 of the process and a power
cut. The price is one fsync per transaction. Predictions go through a journal instead; metrics are committed in groups,
of which those in the same second share one fsync (`Database.begin(relaxed=True)`). PostgreSQL waits for its disk as
it is set up to, but for these.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from loopwright.core import Invalid, missing_extra

WRITE = "loopwright_write"
RELAXED = "loopwright_relaxed"
BUSY_TIMEOUT_S = 30.0
_POOL_SIZE = 8
_TRUSTED_S = 1.0
_USED_AT = "loopwright_used_at"
_POOL_OVERFLOW = 56


def parse_url(text: str | Path) -> URL:
    """The URL of a database, with the driver that we use; a path is a SQLite file's, whatever signs it holds.

    Raises:
        Invalid: not a URL of SQLite (a file) or of PostgreSQL.
    """
    if isinstance(text, Path):
        return URL.create("sqlite+pysqlite", database=str(text))
    try:
        url = make_url(text)
    except ArgumentError:
        raise Invalid(
            f"{_masked(text)!r} is not a database URL", next_step="write postgresql://user@host/name or sqlite:///file"
        ) from None
    backend = url.get_backend_name()
    if backend in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise Invalid(f"there is no database kind {backend!r}", next_step="use sqlite or postgresql")
    if not url.database or url.database == ":memory:":
        raise Invalid("a workspace's SQLite database must be a file", next_step="write sqlite:///path/to/file")
    return url.set(drivername="sqlite+pysqlite")


def _masked(text: str) -> str:
    head, at, tail = text.rpartition("@")
    return f"***@{tail}" if at and head else text


def make_engine(url: URL) -> Engine:
    """An engine with a bounded pool. Nothing is connected yet.

    Raises:
        Invalid: PostgreSQL is asked for and its driver is not installed.
    """
    return _sqlite_engine(url) if url.get_backend_name() == "sqlite" else _postgresql_engine(url)


def _sqlite_engine(url: URL) -> Engine:
    connect = _connector(url, BUSY_TIMEOUT_S)
    engine = create_engine(url, creator=connect, pool_size=_POOL_SIZE, max_overflow=_POOL_OVERFLOW)
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    event.listen(engine, "before_cursor_execute", _refuse_nul)
    return engine


def make_swift_engine(url: URL) -> Engine:
    """An engine for the one connection to SQLite that waits neither for a lock nor for the disk (`SwiftWriter`)."""
    engine = create_engine(url, creator=_connector(url, 0), poolclass=NullPool)
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "connect", _set_up_swift)
    return engine


def _connector(url: URL, busy_timeout_s: float) -> Callable[[], sqlite3.Connection]:
    # mode=rw: a file that was removed under us is an error, not an empty database.
    target = f"file:{quote(str(Path(url.database or '').absolute()))}?mode=rw"
    return lambda: sqlite3.connect(
        target, uri=True, isolation_level=None, timeout=busy_timeout_s, check_same_thread=False
    )


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    pragmas = (
        "synchronous=FULL",
        "foreign_keys=ON",
        "temp_store=MEMORY",
        "cache_size=-16000",
        f"journal_size_limit={64 << 20}",
    )
    for pragma in pragmas:
        connection.execute(f"PRAGMA {pragma}")


def _set_up_swift(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA wal_autocheckpoint=0")


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    if not options.get(WRITE, False):
        connection.exec_driver_sql("BEGIN")
        return
    level = "NORMAL" if options.get(RELAXED, False) else "FULL"
    if connection.info.get("synchronous", "FULL") != level:
        connection.exec_driver_sql(f"PRAGMA synchronous={level}")
        connection.info["synchronous"] = level
    # A writer asks for the lock at once: a reader that turns writer half-way would fail instead of waiting.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_postgresql(connection: Connection) -> None:
    if connection.get_execution_options().get(RELAXED, False):
        # For this transaction only: whoever has the connection next waits as the database is set up to.
        connection.exec_driver_sql("SET LOCAL synchronous_commit = off")


def _postgresql_engine(url: URL) -> Engine:
    try:
        engine = create_engine(
            url,
            connect_args={"connect_timeout": 10, "application_name": "loopwright"},
            pool_size=_POOL_SIZE,
            max_overflow=_POOL_OVERFLOW,
        )
    except ModuleNotFoundError:
        raise missing_extra("psycopg", "postgres", "a PostgreSQL database") from None

    def try_rested(connection: Any, record: ConnectionPoolEntry, _proxy: object) -> None:
        """See that a connection that nobody used for a moment still answers; else the pool takes another."""
        if time.monotonic() < record.info.get(_USED_AT, 0.0) + _TRUSTED_S:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise DisconnectionError("the connection was lost") from error

    event.listen(engine, "begin", _begin_postgresql)
    event.listen(engine, "before_cursor_execute", _refuse_nul)
    event.listen(engine, "checkout", try_rested)
    event.listen(engine, "connect", _note_use)
    event.listen(engine, "checkin", _note_use)
    return engine


def _note_use(_connection: Any, record: ConnectionPoolEntry) -> None:
    record.info[_USED_AT] = time.monotonic()


def _refuse_nul(_connection: Any, _cursor: Any, _statement: str, given: Any, _context: Any, executemany: bool) -> None:
    """Refuse texts with a NUL character, which PostgreSQL has none of, on both databases alike.

    Raises:
        Invalid: a value holds one.
    """
    for row in given if executemany else (given,):
        for value in row.values() if isinstance(row, dict) else row or ():
            if isinstance(value, str):
                refuse_nul(value)
            elif isinstance(value, list):
                for item in value:
                    refuse_nul(item)


def refuse_nul(value: object) -> None:
    """Refuse a text with a NUL character.

    Raises:
        Invalid: it holds one.
    """
    if isinstance(value, str) and "\0" in value:
        raise Invalid(f"{value[:60]!r} holds a NUL character, which no text here may", next_step="take it out")


def create_sqlite_file(path: Path) -> None:
    """Make an empty database in WAL mode; it appears under its name only when it is ready.

    Raises:
        OSError: the folder cannot be written.
        sqlite3.Error: the same, found by SQLite.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    connection = sqlite3.connect(fresh)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA user_version=1")
    finally:
        connection.close()
    fresh.replace(path)
