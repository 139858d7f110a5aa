"""A PostgreSQL server for tests: a private one from installed binaries, or the one in LOOPWRIGHT_TEST_POSTGRES."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text
from tests.servers import Running, ServerMissing, find_program, free_port, shared_server

from loopwright.core import digest_value
from loopwright.store.db import open_database

_REMEDY = "apt-get install postgresql, or set LOOPWRIGHT_TEST_POSTGRES to a URL"
_HOMES = (*Path("/usr/lib/postgresql").glob("*/bin"), Path("/opt/homebrew/bin"), Path("/usr/local/pgsql/bin"))


@pytest.fixture(scope="session")
def postgres_server() -> str:
    """The URL of a server on which databases can be made."""
    return os.environ.get("LOOPWRIGHT_TEST_POSTGRES") or shared_server("postgresql", start_postgres)


def start_postgres(folder: Path) -> Running:
    """Start a server whose data lives in `folder`; without fsync, since a lost test database is no loss."""
    initdb = find_program("initdb", _REMEDY, sorted(_HOMES, reverse=True))
    pg_ctl = str(Path(initdb).with_name("pg_ctl"))
    data, port = folder / "data", free_port()
    prefix = _as_postgres(folder)
    _run([*prefix, initdb, "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"], folder)
    options = f"-p {port} -h 127.0.0.1 -k {folder} -c fsync=off -c full_page_writes=off -c max_connections=300"
    _run([*prefix, pg_ctl, "-D", str(data), "-l", str(folder / "log"), "-o", options, "-w", "start"], folder)
    stop = (*prefix, pg_ctl, "-D", str(data), "-m", "immediate", "-w", "stop")
    return Running(f"postgresql://postgres@127.0.0.1:{port}/postgres", stop=stop)


def _as_postgres(folder: Path) -> list[str]:
    """PostgreSQL refuses to run as root: then it runs as the user postgres, who owns the folder."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return []
    try:
        shutil.chown(folder, "postgres")
    except LookupError:
        raise ServerMissing(f"we are root and there is no user 'postgres' to run PostgreSQL ({_REMEDY})") from None
    return [find_program("runuser", "apt-get install util-linux"), "-u", "postgres", "--"]


def _run(arguments: list[str], folder: Path) -> None:
    with (folder / "start.log").open("ab") as log:
        done = subprocess.run(arguments, cwd=folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise RuntimeError(f"{arguments} failed:\n{(folder / 'start.log').read_text()}")


def _execute(server: str, statement: str) -> None:
    engine = create_engine(make_url(server).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(text(statement))
    finally:
        engine.dispose()


def _url_of(server: str, database: str) -> str:
    return make_url(server).set(database=database).render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str, migrations: tuple[str, ...]) -> str:
    """The name of a database with the schema of all rooms, to copy from."""

    def create(_folder: Path) -> Running:
        name = f"loopwright_template_{uuid.uuid4().hex}"
        _execute(postgres_server, f"CREATE DATABASE {name}")
        open_database(_url_of(postgres_server, name), migrations).close()
        return Running(name)

    return shared_server(f"template-{digest_value([postgres_server, *migrations])[:12]}", create)


@pytest.fixture
def postgres_url(postgres_server: str, postgres_template: str) -> Iterator[str]:
    """A fresh database with the schema of all rooms."""
    yield from _database(postgres_server, f"TEMPLATE {postgres_template}")


@pytest.fixture
def postgres_empty_url(postgres_server: str) -> Iterator[str]:
    """A fresh database without tables."""
    yield from _database(postgres_server, "")


def _database(server: str, options: str) -> Iterator[str]:
    name = f"loopwright_test_{uuid.uuid4().hex}"
    _execute(server, f"CREATE DATABASE {name} {options}")
    yield _url_of(server, name)
    _execute(server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
