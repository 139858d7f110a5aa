"""Logged predictions and their feedback as tables: where they are, and questions to them in SQL."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from loopwright.core import Invalid, NotFound
from loopwright.monitor.places import feedback_key, predictions_key
from loopwright.store import Stores

if TYPE_CHECKING:
    import polars as pl

_QUERY = re.compile(
    r"(?:\s|--[^\n]*(?:\n|$)|/\*.*?\*/|\()*(?:SELECT|WITH|FROM|VALUES|SHOW|EXPLAIN)\b", re.IGNORECASE | re.DOTALL
)


class LoggedTables:
    """The tables of one endpoint: `predictions`, and `feedback`, whose rows answer to theirs.

    What came in within the last minutes may still be in the journals: `MonitorService.advance` and `compact` move it.
    """

    def __init__(self, stores: Stores, project: str, endpoint: str) -> None:
        """Raises:
        NotFound: nothing of the endpoint has reached a table yet.
        """
        keys = {"predictions": predictions_key(project, endpoint), "feedback": feedback_key(project, endpoint)}
        self._tables, self._keys = stores.tables, {name: key for name, key in keys.items() if stores.tables.exists(key)}
        if "predictions" not in self._keys:
            raise NotFound(
                f"no prediction of endpoint {endpoint!r} is in a table yet",
                next_step="loopwright predictions flush moves what was logged into its table",
            )

    def locations(self) -> dict[str, str]:
        """Where any reader of Delta finds them, by name."""
        return {name: self._tables.location(key) for name, key in self._keys.items()}

    def rows(self) -> dict[str, int]:
        """How many rows each has."""
        return {name: self._tables.rows(key) for name, key in self._keys.items()}

    def scan(self, name: str = "predictions") -> pl.LazyFrame:
        """One of them, lazily."""
        return self._tables.scan(self._keys[name])

    def query(self, sql: str) -> pl.LazyFrame:
        """What an SQL query gives, lazily; it sees the tables under their names.

        Raises:
            Invalid: it is no query, or names a column that there is not.
        """
        import polars as pl

        if not _QUERY.match(sql):
            raise Invalid(
                "only queries are answered here; nothing was changed",
                next_step="begin with SELECT or WITH; the tables are " + " and ".join(self._keys),
            )

        frames = {name: self._tables.scan(key) for name, key in self._keys.items()}
        try:
            found = pl.SQLContext(frames).execute(sql, eager=False)
            found.collect_schema()
        except pl.exceptions.PolarsError as error:
            columns = ", ".join(frames["predictions"].collect_schema())
            raise Invalid(
                f"the query cannot be answered: {str(error).splitlines()[0]}", next_step=f"columns: {columns}"
            ) from None
        return found
