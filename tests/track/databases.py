"""Stores that a whole module of tests shares, on the database that its fixture is for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from tests.servers_postgres import _database

from loopwright.core import Location, Settings
from loopwright.store import Stores, open_stores


@contextmanager
def fresh_database(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a database of its own, empty for SQLite in the workspace; `request.param` says of which kind."""
    with ExitStack() as stack:
        url = ""
        if request.param == "postgresql":
            template = request.getfixturevalue("postgres_template")
            database = contextmanager(_database)(request.getfixturevalue("postgres_server"), f"TEMPLATE {template}")
            url = stack.enter_context(database)
        if request.param == "postgresql-english":
            english = "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'"
            url = stack.enter_context(contextmanager(_database)(request.getfixturevalue("postgres_server"), english))
        yield url


@contextmanager
def fresh_stores(request: pytest.FixtureRequest, root: Path, migrations: tuple[str, ...]) -> Iterator[Stores]:
    """Stores in a folder, on a database of their own; `request.param` says which."""
    with fresh_database(request) as url:
        stores = open_stores(Location(root, root / ".loopwright", Settings(db=url)), migrations)
        try:
            yield stores
        finally:
            stores.close()
