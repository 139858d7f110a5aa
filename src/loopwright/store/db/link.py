"""A connection to PostgreSQL on which prepared statements run one at a time without anybody waiting for them: for an
event loop, which watches its socket. Each statement is a transaction of its own; one round trip carries all of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.pool import PoolProxiedConnection

_BINARY = 1


class Link:
    """Opened on a thread that may wait, used on one event loop. What failed there is to be closed, and can be opened
    again.

    Values and results are in PostgreSQL's binary form.
    """

    def __init__(self, engine: Engine, statements: Sequence[str]) -> None:
        self._engine = engine
        self._statements = {_name(place): statement.encode() for place, statement in enumerate(statements)}
        self._pooled: PoolProxiedConnection | None = None
        self._libpq: Any = None  # psycopg's, which is imported only where PostgreSQL is used
        self._rows: list[tuple[bytes | None, ...]] = []
        self._refusal = ""

    @property
    def is_open(self) -> bool:
        """Whether a statement may be sent, once the one before has been answered."""
        return self._libpq is not None

    def open(self) -> None:
        """Connect and prepare the statements; both may take their time.

        Raises:
            sqlalchemy.exc.DBAPIError, psycopg.Error: the database does not answer.
            RuntimeError: it does not take a statement.
        """
        pooled = self._engine.raw_connection()
        connection: Any = pooled.driver_connection
        pooled.detach()
        try:
            connection.autocommit = True
            for name, statement in self._statements.items():
                prepared = connection.pgconn.prepare(name, statement)
                if prepared.error_message:
                    raise RuntimeError(prepared.error_message.decode(errors="replace"))
            connection.pgconn.nonblocking = 1
        except BaseException:
            pooled.close()
            raise
        self._pooled, self._libpq = pooled, connection.pgconn

    def fileno(self) -> int:
        """The socket to watch."""
        found: int = self._libpq.socket
        return found

    def send(self, values: Sequence[bytes | None], statement: int = 0) -> None:
        """Run a statement: call `is_sent` until it is, and `answer` until there is one. Before, nothing else may be
        sent.

        Args:
            values: what stands in the statement as $1, $2 and so on; None for NULL.
            statement: its place among those that the connection was made for.

        Raises:
            psycopg.Error: the connection is gone.
        """
        self._rows = []
        self._libpq.send_query_prepared(_name(statement), values, [_BINARY] * len(values), _BINARY)

    def is_sent(self) -> bool:
        """Whether all of it has left; else call this again when the socket can be written.

        Raises:
            psycopg.Error: the connection is gone.
        """
        sent: bool = self._libpq.flush() == 0
        return sent

    def answer(self) -> list[tuple[bytes | None, ...]] | None:
        """The rows of the statement, which is committed; None until they have come. Never waits: call it when the
        socket can be read.

        Raises:
            psycopg.Error: the connection is gone; whether the statement was committed is not known.
            ConnectionError: the same, told by the database.
            RuntimeError: the statement failed, and changed nothing; the message is the database's. Another may be sent.
        """
        libpq = self._libpq
        libpq.flush()
        libpq.consume_input()
        while not libpq.is_busy():
            result = libpq.get_result()
            if result is None:
                return self._ended()
            if result.error_message:
                self._refusal = result.error_message.decode(errors="replace").strip()
            self._rows += [
                tuple(result.get_value(row, column) for column in range(result.nfields))
                for row in range(result.ntuples)
            ]
        return None

    def _ended(self) -> list[tuple[bytes | None, ...]]:
        refusal, self._refusal = self._refusal, ""
        if refusal and self._libpq.status:
            raise ConnectionError(refusal)
        if refusal:
            raise RuntimeError(refusal)
        return self._rows

    def listen(self) -> None:
        """Take what comes without having been asked for. Never waits: call it when the socket can be read.

        Raises:
            psycopg.Error: the connection is gone.
        """
        self._libpq.consume_input()
        self._libpq.is_busy()  # which reads what has come

    def close(self) -> None:
        """Close the connection; what runs on it is undone, or was committed."""
        pooled, self._pooled, self._libpq = self._pooled, None, None
        if pooled is not None:
            pooled.close()


def _name(statement: int) -> bytes:
    return b"loopwright_%d" % statement
