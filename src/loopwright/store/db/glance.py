"""One look at PostgreSQL without a transaction around it: one round trip instead of three."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, CursorResult


class NotAtAGlanceError(Exception):
    """A second statement was asked for, which would see another state than the first: begin a snapshot instead."""


class Glance:
    """Stands in for a connection while one statement is all that is needed."""

    def __init__(self, connection: Connection) -> None:
        self._connection: Connection | None = connection
        self.dialect = connection.dialect

    def exec_driver_sql(self, statement: str, *given: Any) -> CursorResult[Any]:
        """Run the one statement.

        Raises:
            NotAtAGlanceError: there has been one.
        """
        connection, self._connection = self._connection, None
        if connection is None:
            raise NotAtAGlanceError
        return connection.exec_driver_sql(statement, *given)

    def execute(self, *_statement: Any) -> CursorResult[Any]:
        """Never run anything: what is worth a glance is asked of the driver.

        Raises:
            NotAtAGlanceError: always.
        """
        raise NotAtAGlanceError
