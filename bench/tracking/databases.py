"""An empty database of its own for each server: SQLite in its folder, or one on a private PostgreSQL server."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import peers  # noqa: F401 - makes what follows importable
from spool import free_port
from tests.servers import find_program
from tests.servers_postgres import _HOMES, _REMEDY, _as_postgres, _execute, _run, _url_of


class Databases:
    """SQLite: each server makes its own file, where it starts."""

    kind = "sqlite"
    pid = 0

    def fresh(self, _name: str) -> str:
        """The URL of an empty database; an empty one for a server's own default."""
        return ""


class PostgreSQL(Databases):
    """One server with its default settings, which wait for the disk at each commit as the tests' server does not."""

    kind = "postgresql"

    def __init__(self, url: str, pid: int) -> None:
        self.url, self.pid = url, pid

    def fresh(self, _name: str) -> str:
        database = f"bench_{uuid.uuid4().hex}"
        _execute(self.url, f"CREATE DATABASE {database}")
        return str(_url_of(self.url, database))


@contextlib.contextmanager
def databases(kind: str) -> Iterator[Databases]:
    """The databases of one run of the benchmark."""
    if kind == "sqlite":
        yield Databases()
        return
    with tempfile.TemporaryDirectory(prefix="bench-postgres-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        initdb = find_program("initdb", _REMEDY, sorted(_HOMES, reverse=True))
        control = [*_as_postgres(folder), str(Path(initdb).with_name("pg_ctl")), "-D", str(folder / "data")]
        made = [initdb, "-D", str(folder / "data"), "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        _run([*_as_postgres(folder), *made], folder)
        options = f"-p {(port := free_port())} -h 127.0.0.1 -k {folder} -c max_connections=300"
        _run([*control, "-l", str(folder / "log"), "-o", options, "-w", "start"], folder)
        try:
            pid = int((folder / "data" / "postmaster.pid").read_text().splitlines()[0])
            yield PostgreSQL(f"postgresql://postgres@127.0.0.1:{port}/postgres", pid)
        finally:
            stop = [*control, "-m", "immediate", "-w", "stop"]
            subprocess.run(stop, check=False, stdout=subprocess.DEVNULL, timeout=60)
