"""The database of a workspace: transactions, snapshots, leases."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Literal, cast

from sqlalchemy import URL, Connection, Insert, Table, func, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError

from loopwright.core import Unavailable
from loopwright.store.db import leasing
from loopwright.store.db.engines import BUSY_TIMEOUT_S, RELAXED, WRITE, make_engine
from loopwright.store.db.errors import translated
from loopwright.store.db.glance import Glance
from loopwright.store.db.link import Link
from loopwright.store.db.swift import SwiftWriter

Dialect = Literal["sqlite", "postgresql"]


class Database:
    """Transactions on SQLite or PostgreSQL, with the same promises on both.

    Thread-safe; made once per process and workspace. What `begin()` committed survives kill -9 of this process.
    """

    def __init__(self, url: URL) -> None:
        """Args:
        url: as `parse_url` gives it. Nothing is connected before the first use.
        """
        self.dialect: Dialect = "sqlite" if url.get_backend_name() == "sqlite" else "postgresql"
        self.url = url.render_as_string(hide_password=True)
        self.place = (url.database or "") if self.dialect == "sqlite" else self.url
        self._engine = make_engine(url)
        self._writer = self._engine.execution_options(**{WRITE: True})
        self._relaxed = self._engine.execution_options(**{WRITE: True, RELAXED: True})
        self._reader = self._engine
        if self.dialect == "postgresql":
            self._reader = self._engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._glancer = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._swift = SwiftWriter(url)
        self._links: list[Link] = []
        self._endings: list[Callable[[], None]] = []
        self._turn = threading.Lock()
        self._local = threading.local()

    @property
    def writing(self) -> bool:
        """Whether this thread is inside `begin()`."""
        return getattr(self._local, "writing", False)

    @contextmanager
    def begin(self, *, relaxed: bool = False) -> Iterator[Connection]:
        """A write transaction: committed when the block ends, undone when it raises.

        On SQLite it is alone (BEGIN IMMEDIATE). On PostgreSQL it is READ COMMITTED: where a change depends on rows
        that it read, guard it with `lock()`, a unique constraint, or a compare-and-set on a revision.

        Args:
            relaxed: do not wait for the database's disk. What was committed survives kill -9 of this process all the
                same; a power cut may undo it, with all that was relaxed since the last transaction that was not.

        Raises:
            Unavailable: locked, unreachable, full or read-only.
            Corrupt: the database is damaged.
            Conflict: a row breaks a constraint.
            RuntimeError: this thread is inside another `begin()` already; hand its connection on instead.
        """
        if self.writing:
            raise RuntimeError("begin() inside begin(): pass the open transaction on instead of opening another")
        with self._my_turn():
            self._local.writing = True
            try:
                writer = self._relaxed if relaxed else self._writer
                with translated(self.place), writer.connect() as connection, connection.begin():
                    yield connection
            finally:
                self._local.writing = False

    @contextmanager
    def begin_at_once(self) -> Iterator[Connection | None]:
        """A small relaxed write transaction on SQLite that waits for nothing; None where it would have to: on
        PostgreSQL, and while another thread or process writes.

        The write-ahead log grows until a transaction that is not relaxed, of whichever process, copies it into the
        database; see that there is one now and then.

        Raises:
            Unavailable, Corrupt, Conflict, RuntimeError: as `begin`.
        """
        if self.writing:
            raise RuntimeError("begin_at_once() inside begin(): pass the open transaction on instead")
        if self.dialect != "sqlite" or not self._turn.acquire(blocking=False):
            yield None
            return
        self._local.writing = True
        try:
            with translated(self.place), self._swift.begin() as connection:
                yield connection
        finally:
            self._local.writing = False
            self._turn.release()

    def run_at_once(self, work: Callable[[sqlite3.Cursor], bool]) -> bool:
        """The same for a few statements straight at SQLite's driver, where even a context would cost more than they do.

        Args:
            work: says whether what it did is to be committed; it may be called from one thread at a time only.

        Returns:
            Whether it was committed; False where nothing was stored.

        Raises:
            sqlite3.Error: the database does not take it; nothing was stored.
            RuntimeError: as `begin`.
        """
        if self.writing:
            raise RuntimeError("run_at_once() inside begin(): pass the open transaction on instead")
        if self.dialect != "sqlite" or not self._turn.acquire(blocking=False):
            return False
        self._local.writing = True
        try:
            return self._swift.run(work)
        finally:
            self._local.writing = False
            self._turn.release()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A snapshot to read from: every query in the block sees the same state.

        Raises:
            Unavailable: locked or unreachable.
            Corrupt: the database is damaged.
        """
        with translated(self.place), self._reader.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def glance(self) -> Iterator[Connection]:
        """One statement, straight at the driver, on PostgreSQL: for the question whether anything has changed.

        A second one raises `NotAtAGlanceError`, since it would see another state; take `read` then.

        Raises:
            Unavailable: unreachable.
        """
        with translated(self.place), self._glancer.connect() as connection:
            yield cast(Connection, Glance(connection))

    @contextmanager
    def _my_turn(self) -> Iterator[None]:
        # SQLite lets one writer in; threads of one process queue here, fairly, instead of polling its lock.
        if self.dialect != "sqlite":
            yield
            return
        if not self._turn.acquire(timeout=BUSY_TIMEOUT_S):
            raise Unavailable(f"another thread has kept the database {self.place} for {BUSY_TIMEOUT_S:g} s")
        try:
            yield
        finally:
            self._turn.release()

    def upsert(
        self,
        table: Table,
        values: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        conflict_columns: Sequence[str],
        update_columns: Sequence[str] = (),
    ) -> Insert:
        """An INSERT that updates `update_columns` of the row that is there already, or leaves it as it is if none.

        With no `values`, the rows are given to `execute`: that statement is made once, which a hot path should prefer.
        """
        made = _upsert(self.dialect, table, tuple(conflict_columns), tuple(update_columns))
        if not values:
            return made
        return made.values(dict(values) if isinstance(values, Mapping) else [dict(row) for row in values])

    def lock(self, tx: Connection, name: str) -> None:
        """Wait until no other open transaction holds `name`, and hold it to this one's end.

        For numbers that must follow each other (versions of one dataset). SQLite's writers are alone anyway.
        """
        if self.dialect == "postgresql":
            tx.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))

    def try_lease(self, name: str, holder: str, ttl_s: float) -> bool:
        """Take or renew the lease `name` for `ttl_s` seconds of database time; False while another holds it.

        A renewal in the first half of a lease's time writes nothing.

        Raises:
            Unavailable: locked or unreachable: act as if the lease were lost.
        """
        with self.read() as connection:
            answer = leasing.standing(connection, name, holder, ttl_s)
        if answer is not None:
            return answer
        with self.begin() as tx:
            return leasing.take(tx, name, holder, ttl_s)

    def release_lease(self, name: str, holder: str) -> None:
        """Give the lease back, if `holder` has it."""
        with self.begin() as tx:
            leasing.release(tx, name, holder)

    def link(self, statements: Sequence[str]) -> Link:
        """A connection of its own to PostgreSQL for a few statements, not yet open; `close` closes it."""
        link = Link(self._engine, statements)
        self._links.append(link)
        return link

    def before_close(self, end: Callable[[], None]) -> None:
        """Have what reads this database on a thread of its own ended before the connections are closed."""
        self._endings.append(end)

    def check(self) -> list[str]:
        """Integrity problems, in words; empty when there are none.

        Raises:
            Unavailable: the database cannot be reached at all.
        """
        if self.dialect == "postgresql":
            with self.read() as connection:
                connection.execute(select(1))
            return []
        try:
            with self._reader.connect() as connection:
                rows = connection.execute(text("PRAGMA quick_check(20)")).scalars().all()
                broken = connection.execute(text("PRAGMA foreign_key_check")).all()
        except DBAPIError as error:
            if isinstance(error.orig, sqlite3.DatabaseError) and not isinstance(error.orig, sqlite3.OperationalError):
                return [f"the database file {self.place} is damaged: {error.orig}"]
            with translated(self.place):
                raise
        problems = [f"the database file {self.place} is damaged: {row}" for row in rows if row != "ok"]
        return problems + [f"a row of {row[0]} points at a row of {row[2]} that is gone" for row in broken]

    def close(self) -> None:
        """Close every connection. The database can be used again; it then connects anew."""
        for end in self._endings:
            end()
        self._swift.close()
        for link in self._links:
            link.close()
        self._engine.dispose()


@lru_cache(maxsize=512)
def _upsert(dialect: Dialect, table: Table, conflict: tuple[str, ...], update: tuple[str, ...]) -> Insert:
    insert = sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
    if not update:
        return insert.on_conflict_do_nothing(index_elements=conflict)
    changes = {name: insert.excluded[name] for name in update}
    return insert.on_conflict_do_update(index_elements=conflict, set_=changes)
