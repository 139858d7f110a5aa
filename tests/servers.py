"""Servers that tests need: started once per test run, shared by its workers, stopped at its end.

A server that cannot be had is never a silent skip: the tests that needed it are listed at the end of the run with the
reason, and where `CI=true` the run fails. A fixture for a server looks like this:

    @pytest.fixture(scope="session")
    def thing_url() -> str:
        return shared_server("thing", start_thing)      # start_thing(folder) -> Running, or raises ServerMissing

    def start_thing(folder: Path) -> Running:
        program = find_program("thing-server", "apt-get install thing")
        ...

For a program that is needed but is no server (Chromium): `needs_program("chromium", "apt-get install chromium")`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import psutil
import pytest
from filelock import FileLock

_RUN_FOLDER = "LOOPWRIGHT_TEST_RUN"
_PREFIX = "loopwright-tests-"
_MARK = "missing: "
_missing: dict[str, list[str]] = {}


class Running(msgspec.Struct, frozen=True):
    """A server that answers: where, and how to stop it (a command, or a process id to end)."""

    url: str
    pid: int | None = None
    stop: tuple[str, ...] = ()


class ServerMissing(Exception):
    """The server cannot be had here; the message says why and what to do."""


def shared_server(name: str, start: Callable[[Path], Running]) -> str:
    """The URL of a server that all workers of this run share; the first one to ask starts it.

    Tests that ask are listed as not run if `start` raises ServerMissing; any other error of `start` is theirs.
    """
    folder = _run_folder()
    record = folder / f"{name}.json"
    with FileLock(str(folder / f"{name}.lock"), timeout=120):
        if not record.exists():
            record.write_bytes(msgspec.json.encode(_try_start(name, start, folder)))
    known = json.loads(record.read_bytes())
    if "missing" in known:
        report_missing(known["missing"])
    return str(known["url"])


def _try_start(name: str, start: Callable[[Path], Running], folder: Path) -> Any:
    home = folder / name
    home.mkdir(exist_ok=True)
    try:
        return start(home)
    except ServerMissing as error:
        return {"missing": str(error)}


def report_missing(reason: str) -> NoReturn:
    """Do not run this test, and say so at the end of the run."""
    pytest.skip(_MARK + reason)


def find_program(name: str, remedy: str, folders: Sequence[Path] = ()) -> str:
    """The path of a program on PATH or in `folders`.

    Raises:
        ServerMissing: it is not installed.
    """
    path = os.pathsep.join([os.environ.get("PATH", ""), *map(str, folders)])
    found = shutil.which(name, path=path)
    if found is None:
        raise ServerMissing(f"the program {name!r} is not installed ({remedy})")
    return found


def needs_program(name: str, remedy: str) -> str:
    """The path of a program; without it the test is listed as not run."""
    try:
        return find_program(name, remedy)
    except ServerMissing as error:
        report_missing(str(error))


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(ready: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
    """Wait for a server to answer.

    Raises:
        RuntimeError: it did not in time.
    """
    deadline = time.monotonic() + timeout_s
    while not ready():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not answer within {timeout_s:g} s")
        time.sleep(0.05)


def answers(port: int) -> bool:
    """Whether something listens on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


# The run's folder: made by the controlling process, found by its workers through the environment.


def _run_folder() -> Path:
    return Path(os.environ[_RUN_FOLDER])


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    if _is_worker(config):
        return
    _clear_dead_runs()
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    folder.chmod(0o755)  # PostgreSQL runs as another user where we are root
    os.environ[_RUN_FOLDER] = str(folder)


def pytest_unconfigure(config: pytest.Config) -> None:
    if not _is_worker(config) and (folder := os.environ.pop(_RUN_FOLDER, "")):
        _stop_all(Path(folder))


def _clear_dead_runs() -> None:
    """Stop what a killed run left behind."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        owner = folder.name.removeprefix(_PREFIX).split("-")[0]
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            _stop_all(folder)


def _stop_all(folder: Path) -> None:
    for record in folder.glob("*.json"):
        known = json.loads(record.read_bytes() or b"{}")
        if known.get("stop"):
            subprocess.run(known["stop"], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)
        if known.get("pid"):
            _end(int(known["pid"]))
    shutil.rmtree(folder, ignore_errors=True)


def _end(pid: int) -> None:
    try:
        process = psutil.Process(pid)
        process.send_signal(signal.SIGTERM)
        process.wait(10)
    except psutil.TimeoutExpired:
        process.kill()
    except psutil.NoSuchProcess:
        return


# What did not run: collected from the reports, which reach the controlling process from every worker.


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = str(report.longrepr[2]).removeprefix("Skipped: ")
        if reason.startswith(_MARK):
            _missing.setdefault(reason.removeprefix(_MARK), []).append(report.nodeid)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if _missing and os.environ.get("CI", "").lower() == "true" and not _is_worker(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not _missing:
        return
    terminalreporter.section("tests that did NOT run", red=True, bold=True)
    for reason, tests in sorted(_missing.items()):
        terminalreporter.write_line(f"{len(tests)} tests: {reason}", red=True)
        for test in tests:
            terminalreporter.write_line(f"    {test}")
    if os.environ.get("CI", "").lower() == "true":
        terminalreporter.write_line("CI=true: the run has failed because of them", red=True, bold=True)
