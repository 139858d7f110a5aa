"""A test that cannot run for want of a server is never silently skipped."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parent.parent
CONFTEST = """
import subprocess, sys
import pytest
from tests.servers import Running, ServerMissing, find_program, needs_program, shared_server

pytest_plugins = ["tests.servers"]


@pytest.fixture(scope="session")
def sleeper():
    def start(folder):
        with open({count!r}, "a") as count:
            count.write("started\\n")
        process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        return Running(f"pid:{{process.pid}}", pid=process.pid)
    return shared_server("sleeper", start)


@pytest.fixture(scope="session")
def absent():
    return shared_server("absent", lambda folder: find_program("no-such-server", "apt-get install no-such-server"))


@pytest.fixture
def browser():
    return needs_program("no-such-browser", "apt-get install no-such-browser")
"""
TESTS = """
import psutil, pytest

@pytest.mark.parametrize("number", range(4))
def test_it_sleeps(sleeper, number):
    assert psutil.pid_exists(int(sleeper.split(":")[1]))
    print(sleeper)

@pytest.mark.parametrize("number", range(2))
def test_needs_a_server(absent, number): ...

def test_needs_a_program(browser): ...
"""


def run(folder: Path, tests: str, *options: str, ci: str = "") -> tuple[int, str]:
    (folder / "conftest.py").write_text(CONFTEST.format(count=str(folder / "count")))
    (folder / "test_it.py").write_text(tests)
    (folder / "pytest.ini").write_text("[pytest]\n")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "LOOPWRIGHT"))}
    environment |= {"PYTHONPATH": str(ROOT), "CI": ci}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(folder)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("-n", "2")])
def test_what_did_not_run_is_listed_with_its_reason(tmp_path: Path, options: tuple[str, ...]) -> None:
    code, output = run(tmp_path, TESTS, *options)
    assert code == 0, output
    assert "tests that did NOT run" in output
    assert "2 tests: the program 'no-such-server' is not installed (apt-get install no-such-server)" in output
    assert "1 tests: the program 'no-such-browser' is not installed (apt-get install no-such-browser)" in output
    assert "test_it.py::test_needs_a_server[1]" in output


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("-n", "2")])
def test_ci_fails_when_a_test_did_not_run(tmp_path: Path, options: tuple[str, ...]) -> None:
    code, output = run(tmp_path, TESTS, *options, ci="true")
    assert code == 1, output
    assert "CI=true: the run has failed because of them" in output


@pytest.mark.slow
def test_ci_passes_when_every_test_ran(tmp_path: Path) -> None:
    code, output = run(tmp_path, TESTS.split('@pytest.mark.parametrize("number", range(2))')[0], ci="true")
    assert code == 0, output
    assert "did NOT run" not in output


@pytest.mark.slow
def test_workers_share_one_server_and_it_is_stopped_at_the_end(tmp_path: Path) -> None:
    _, output = run(tmp_path, TESTS, "-n", "2", "-rA")
    assert (tmp_path / "count").read_text() == "started\n"
    assert not psutil.pid_exists(int(re.findall(r"pid:(\d+)", output)[0]))
