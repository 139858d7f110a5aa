"""Fixtures that every room's tests share: stores on both databases, and the servers that they need."""

from __future__ import annotations

import gc
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # so that `tests.servers` can be imported however pytest was started

from tests.examples import FEWER, examples  # noqa: E402  (after the path is set)

from loopwright.core import Clock, Location, Settings  # noqa: E402  (after the path is set)
from loopwright.store import Stores, open_stores  # noqa: E402

pytest_plugins = ["tests.sharing", "tests.servers", "tests.servers_postgres"]
if importlib.util.find_spec("tests.servers_bytes") is not None:
    pytest_plugins.append("tests.servers_bytes")


if importlib.util.find_spec("hypothesis") is not None:  # the environments of outside systems have none
    import hypothesis

    # An example that takes long says how busy the machine is, nothing about the code; nor does how long it takes to
    # draw one, which a health check would judge. A test may use a fixture for all of its examples.
    hypothesis.settings.register_profile(
        "loopwright", deadline=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    hypothesis.settings.load_profile("loopwright")


def pytest_configure(config: pytest.Config) -> None:
    """A run without slow tests tries properties on fewer examples."""
    if "not slow" in config.option.markexpr:
        os.environ[FEWER] = "1"
        if importlib.util.find_spec("hypothesis") is not None:
            hypothesis.settings.register_profile("fewer", hypothesis.settings.default, max_examples=examples(100))
            hypothesis.settings.load_profile("fewer")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """What collecting loads stays to the end: the collector of garbage need not walk it, now or during the tests."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(10_000, 10, 10)
        gc.enable()


def pytest_unconfigure() -> None:
    os.environ.pop(FEWER, None)


def room_migrations() -> tuple[str, ...]:
    """The migration packages of all rooms."""
    folders = (ROOT / "src" / "loopwright").glob("*/migrations/__init__.py")
    return tuple(sorted(f"loopwright.{file.parent.parent.name}.migrations" for file in folders))


@pytest.fixture(scope="session")
def migrations() -> tuple[str, ...]:
    return room_migrations()


@pytest.fixture(scope="session")
def sqlite_template(migrations: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the schema of all rooms, to copy from."""
    root = tmp_path_factory.mktemp("template")
    open_stores(Location(root, root / ".loopwright", Settings()), migrations).close()
    return root / ".loopwright" / "loopwright.db"


@pytest.fixture(scope="session")
def with_schema(sqlite_template: Path) -> Callable[[Path], Path]:
    """A function that gives a folder an empty database of today's schema, so that to open a workspace there takes no
    migrations: `open_workspace(with_schema(folder))`."""

    def lay(root: Path) -> Path:
        database = root / ".loopwright" / "loopwright.db"
        if not database.exists():
            database.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(sqlite_template, database)
        return root

    return lay


@pytest.fixture
def make_sqlite_stores(
    with_schema: Callable[[Path], Path], migrations: tuple[str, ...]
) -> Iterator[Callable[..., Stores]]:
    """A function that opens stores on SQLite in a folder: `make_sqlite_stores(root, clock=…, settings=…)`."""
    opened: list[Stores] = []

    def make(root: Path, *, clock: Clock | None = None, settings: Settings | None = None) -> Stores:
        location = Location(with_schema(root), root / ".loopwright", settings or Settings())
        opened.append(open_stores(location, migrations, clock=clock))
        return opened[-1]

    yield make
    for stores in opened:
        stores.close()


@pytest.fixture
def stores_sqlite(make_sqlite_stores: Callable[..., Stores], tmp_path: Path) -> Stores:
    """Fresh stores on SQLite, for tests that are about something else than the database."""
    return make_sqlite_stores(tmp_path)


@pytest.fixture
def stores_postgres(postgres_url: str, migrations: tuple[str, ...], tmp_path: Path) -> Iterator[Stores]:
    """Fresh stores on PostgreSQL."""
    location = Location(tmp_path, tmp_path / ".loopwright", Settings(db=postgres_url))
    stores = open_stores(location, migrations)
    yield stores
    stores.close()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def stores(request: pytest.FixtureRequest) -> Stores:
    """Fresh stores, once on SQLite and once on PostgreSQL."""
    name = "stores_sqlite" if request.param == "sqlite" else "stores_postgres"
    found = request.getfixturevalue(name)
    assert isinstance(found, Stores)
    return found
