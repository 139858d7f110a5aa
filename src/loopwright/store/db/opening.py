"""Open a database: make it if it is missing, bring its schema up to date, refuse one that is newer than this code."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, func, inspect, select

from loopwright.core import LoopwrightError, Unavailable
from loopwright.store.db.database import Database
from loopwright.store.db.engines import BUSY_TIMEOUT_S, create_sqlite_file, parse_url
from loopwright.store.db.errors import translated
from loopwright.store.db.schema import state
from loopwright.store.db.versions import Versions, known_versions

_FINGERPRINT = "schema"
_LOCK_NAME = "loopwright schema"


def open_database(url: str | Path, migrations: Sequence[str]) -> Database:
    """A database that is ready for use. Safe when many processes open a new workspace at once.

    Args:
        url: the path of a SQLite file, `sqlite:///path`, or `postgresql://…`.
        migrations: the migration packages of all rooms.

    Raises:
        Invalid: the URL is malformed, or of a kind that we do not know.
        Unavailable: it cannot be reached, written or locked.
        Conflict: it was made by a newer Loopwright.
        Corrupt: it is damaged.
    """
    parsed = parse_url(url)
    versions = known_versions(migrations)
    if parsed.get_backend_name() == "sqlite":
        _prepare_sqlite(Path(parsed.database or ""))
    database = Database(parsed)
    try:
        if not _is_current(database, versions):
            _upgrade(database, parsed, versions)
    except BaseException:
        database.close()
        raise
    return database


def _is_current(database: Database, versions: Versions) -> bool:
    with database.read() as connection:
        return _stored_fingerprint(connection) == versions.fingerprint


def _stored_fingerprint(connection: Connection) -> str | None:
    if not inspect(connection).has_table(state.name):
        return None
    return connection.execute(select(state.c.value).where(state.c.key == _FINGERPRINT)).scalar_one_or_none()


def _upgrade(database: Database, url: URL, versions: Versions) -> None:
    from loopwright.store.db.upgrade import upgrade

    with _alone(database, url), database.begin() as tx:
        if database.dialect == "postgresql":
            # The transaction's own lock, so that a killed upgrade frees it; BEGIN IMMEDIATE does this on SQLite.
            tx.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(_LOCK_NAME, 0))))
        if _stored_fingerprint(tx) == versions.fingerprint:
            return
        upgrade(tx, versions, database.place)
        row = {"key": _FINGERPRINT, "value": versions.fingerprint}
        tx.execute(database.upsert(state, row, ["key"], ["value"]))


@contextmanager
def _alone(database: Database, url: URL) -> Iterator[None]:
    if database.dialect == "postgresql":
        yield
        return
    with _file_lock(Path(url.database or "")):
        yield


@contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(str(path) + ".lock", timeout=BUSY_TIMEOUT_S * 2)
    try:
        lock.acquire()
    except Timeout:
        raise Unavailable(f"another process has kept {path} locked", next_step="wait for it, or end it") from None
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        yield
    finally:
        lock.release()


def _unwritable(path: Path, error: OSError) -> LoopwrightError:
    reason = error.strerror or str(error)
    return Unavailable(
        f"the folder {path.parent} cannot be written: {reason}",
        next_step="make it writable, free some space, or choose another with --workspace",
    )


def _prepare_sqlite(path: Path) -> None:
    """Make the file if it is missing, and see that it is in WAL mode (a restored backup may not be)."""
    if path.exists() and _journal_mode(path, "") == "wal":
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path.parent / "file", error) from error
    with _file_lock(path):
        if not path.exists():
            try:
                with translated(str(path)):
                    create_sqlite_file(path)
            except OSError as error:
                raise _unwritable(path, error) from error
        _switch_to_wal(path)


def _switch_to_wal(path: Path) -> None:
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while _journal_mode(path, "=WAL") != "wal":
        if time.monotonic() > deadline:
            raise Unavailable(f"the database file {path} is in use", next_step="end the program that uses it")
        time.sleep(0.05)


def _journal_mode(path: Path, assign: str) -> str:
    with translated(str(path)):
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)
        try:
            return str(connection.execute(f"PRAGMA journal_mode{assign}").fetchone()[0])
        except sqlite3.OperationalError as error:
            if (error.sqlite_errorcode & 0xFF) == sqlite3.SQLITE_BUSY:
                return "busy"
            raise
        finally:
            connection.close()
