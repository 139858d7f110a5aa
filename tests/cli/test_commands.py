"""The command line as a person meets it: exit codes, messages, JSON, and what bad input gets."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from loopwright.cli.main import COMMANDS, main

GOOD = "id,size,kind\n" + "\n".join(f"{n},{n * 1.5},{'ab'[n % 2]}" for n in range(40)) + "\n"


class Told:
    """How a command ended and what it printed."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def json(self) -> dict[str, object]:
        return json.loads(self.out)

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.out.splitlines()]


def run_here(*arguments: str) -> Told:
    """Run `loopwright` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    return Told(code, out.getvalue(), err.getvalue())


def run_process(*arguments: str) -> Told:
    """Run `loopwright` as its own process."""
    command = [sys.executable, "-m", "loopwright", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return Told(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: empty, and nothing in the environment points elsewhere."""
    for name in [name for name in os.environ if name.startswith("LOOPWRIGHT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def process(empty_folder: Path) -> Callable[..., Told]:
    """Runs `loopwright` in an empty folder as its own process."""
    return run_process


@pytest.fixture
def lw(empty_folder: Path) -> Callable[..., Told]:
    """Runs `loopwright` in an empty folder, in this process: a tenth of the time of one of its own."""
    return run_here


@pytest.fixture(params=["here", pytest.param("process", marks=pytest.mark.slow)])
def lw_both(request: pytest.FixtureRequest, empty_folder: Path) -> Callable[..., Told]:
    """Runs `loopwright` in an empty folder: in this process, and as its own."""
    return run_here if request.param == "here" else run_process


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "things.csv"
    path.write_text(GOOD)
    return path


@pytest.mark.slow
def test_a_process_ends_with_the_code_of_its_command(process):
    told = process("runs", "get", "0" * 32)
    assert (told.code, told.out) == (3, "")
    assert "0" * 32 in told.err


def test_help_names_every_command_and_loads_nothing_heavy(process):
    shown = process("--help")
    assert shown.code == 0
    assert all(name in shown.out for name in COMMANDS)
    heavy = "{'sqlalchemy', 'polars', 'msgspec', 'rich'}"
    code = f"import sys; from loopwright.cli import main; main(['--help']); print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


@pytest.mark.slow
def test_every_command_loads_by_itself_all_that_it_needs():
    """Each in a process that has loaded nothing but the table of the commands."""
    code = """
import os, sys
from loopwright.cli.main import COMMANDS, main
for name in COMMANDS:
    sys.stdout.flush()
    if (child := os.fork()) == 0:
        code = main([name, "--help"])
        sys.stdout.flush()
        os._exit(code)
    print("ended", name, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    ended = [line for line in done.stdout.splitlines() if line.startswith("ended ")]
    assert ended == [f"ended {name} 0" for name in COMMANDS], done.stderr
    assert done.stdout.count("Usage:") == len(COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help(lw, name: str):
    shown = lw(name, "--help")
    assert shown.code == 0, shown.err
    assert "Usage:" in shown.out


@pytest.mark.slow
def test_ingest_log_profile_and_check_speak_json(lw_both, good: Path):
    assert lw_both("data", "ingest", "things", str(good), "--json").json()["ref"] == "dataset:things@1"
    assert lw_both("data", "ingest", "things", str(good), "--json").json()["version"] == 1
    assert [row["ref"] for row in lw_both("data", "log", "things", "--json").lines()] == ["dataset:things@1"]
    assert lw_both("data", "profile", "things", "--json").json()["rows"] == 40
    assert len(lw_both("data", "head", "things", "-n", "3", "--json").lines()) == 3
    kinds = [event["kind"] for event in lw_both("events", "--json").lines()]
    assert kinds == ["dataset.version_created"]
    assert lw_both("audit", "verify", "--json").json()["ok"] is True


def test_gzipped_and_appended_data(lw, tmp_path: Path, good: Path):
    packed = tmp_path / "more.csv.gz"
    packed.write_bytes(gzip.compress(GOOD.encode()))
    lw("data", "ingest", "things", str(good))
    appended = lw("data", "ingest", "things", str(packed), "--mode", "append", "--json").json()
    assert (appended["version"], appended["rows"]) == (2, 80)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["data", "log", "nothing"], 3, "nothing"),
        (["data", "profile", "dataset:../../etc"], 2, "cannot name a dataset"),
        (["data", "ingest", "things", "missing.csv"], 3, "missing.csv"),
        (["trace", "model:none@1"], 3, "model:none@1"),
        (["trace", "what"], 2, "not a ref"),
        (["runs", "get", "0" * 32], 3, "0" * 32),
        (["runs", "list", "--filter", "metrics.auc >"], 2, "metrics.auc"),
        (["models", "card", "delay@3"], 3, "delay"),
        (["loops", "apply", "missing.yaml"], 2, "missing.yaml"),
        (["pipeline", "run", "nowhere:train"], 3, "nowhere"),
        (["no-such-command"], 2, "no-such-command"),
        (["data", "log", "things", "--workspace", "ftp://x"], 2, "ftp://x"),
        (["data", "log", "things", "--workspace", "http://127.0.0.1:9"], 4, "does not answer"),
    ],
)
def test_wrong_use_says_what_and_exits_with_the_right_code(lw, arguments: list[str], code: int, said: str):
    told = lw(*arguments)
    assert told.code == code, told.err
    assert said in told.err
    assert told.out == ""
    assert "Traceback" not in told.err


@pytest.mark.slow
def test_a_malformed_csv_names_file_and_line_and_leaves_nothing(lw, tmp_path: Path):
    path = tmp_path / "bad.csv"
    path.write_text(GOOD + "41,1.0,a,too,many\n")
    told = lw("data", "ingest", "things", str(path))
    assert told.code == 2
    assert "bad.csv" in told.err
    assert "42" in told.err
    assert lw("data", "list", "--json").out == ""


def test_a_damaged_database_is_told_and_exits_5(lw_both, tmp_path: Path, good: Path):
    lw_both("data", "ingest", "things", str(good))
    database = tmp_path / ".loopwright" / "loopwright.db"
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(database.read_bytes())
    content[:4096] = os.urandom(4096)
    database.write_bytes(bytes(content))
    told = lw_both("data", "list")
    assert told.code == 5, told.err
    assert "damaged" in told.err
    assert "Traceback" not in told.err


def test_an_edited_event_fails_the_audit_and_is_named(lw, tmp_path: Path, good: Path):
    lw("data", "ingest", "things", str(good))
    lw("data", "ingest", "others", str(good))
    (first, _) = lw("events", "--json").lines()
    with sqlite3.connect(tmp_path / ".loopwright" / "loopwright.db") as connection:
        connection.execute("UPDATE events SET subject = 'dataset:forged@1' WHERE id = ?", (first["id"],))
    told = lw("audit", "verify", "--json")
    assert told.code == 1
    assert told.json()["first_bad"]["id"] == first["id"]


def test_a_flipped_byte_is_found_by_fsck(lw, tmp_path: Path, good: Path):
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "large.bin").write_bytes(os.urandom(300_000))
    assert lw("data", "ingest", "tree", str(folder), "--json").json()["kind"] == "tree"
    assert lw("fsck", "--json").code == 0
    largest = max(
        (tmp_path / ".loopwright" / "objects").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0
    )
    largest.chmod(0o644)
    content = bytearray(largest.read_bytes())
    content[1000] ^= 1
    largest.write_bytes(bytes(content))
    told = lw("fsck", "--json")
    assert told.code == 5
    assert largest.name[-20:] in told.out.replace("/", "")


def test_init_makes_a_project_that_runs(lw_both, tmp_path: Path, good: Path, monkeypatch: pytest.MonkeyPatch):
    made = lw_both("init", "project", "--data", str(good), "--target", "kind", "--name", "things", "--json")
    assert made.code == 0, made.err
    root = tmp_path / "project"
    assert {path.name for path in root.iterdir() if path.is_file()} == {
        "loopwright.toml",
        "things.py",
        "loop.yaml",
        "monitor.json",
    }
    monkeypatch.chdir(root)
    assert lw_both("loops", "apply", "loop.yaml").code == 0
    assert lw_both("monitors", "apply", "@monitor.json").code == 0
    monkeypatch.chdir(tmp_path)
    again = lw_both("init", "project")
    assert (again.code, "already" in again.err) == (3, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--data", "things.csv"], "go together"),
        (["--data", "things.csv", "--target", "colour"], "no column 'colour'"),
        (["--data", "things.csv", "--target", "kind", "--name", "1st"], "cannot name a Python module"),
    ],
)
def test_init_refuses_what_makes_no_project(lw, good: Path, arguments: list[str], said: str):
    told = lw("init", "project", *arguments)
    assert told.code == 2
    assert said in told.err


def test_init_leaves_nothing_behind_when_the_data_are_malformed(lw, tmp_path: Path):
    bad = tmp_path / "bad.csv"
    bad.write_text('a,b\n1,2\n3,"4\n')
    told = lw("init", "new/project", "--data", str(bad), "--target", "b")
    assert told.code == 2, told.err
    assert "bad.csv" in told.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.csv"]


def test_init_touches_nothing_where_a_file_is_taken(lw, tmp_path: Path, good: Path):
    (tmp_path / "loop.yaml").write_text("mine")
    told = lw("init", ".", "--data", str(good), "--target", "kind")
    assert told.code == 3
    assert "loop.yaml is there already" in told.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["loop.yaml", "things.csv"]


def test_a_file_that_is_not_there_is_named_with_the_next_step(lw):
    told = lw("monitors", "apply", "@missing.json")
    assert told.code == 3
    assert "there is no file 'missing.json'" in told.err
    assert "behind the @" in told.err


def test_what_one_command_did_names_its_request(lw, good: Path):
    lw("data", "ingest", "things", str(good))
    (event, *_) = lw("events", "--json", "--kind", "dataset.version_created").lines()
    assert str(event["cause"]).startswith("request:")


def test_doctor_names_what_is_there(lw):
    told = lw("doctor", "--json")
    assert told.code == 0, told.err
    assert {"python", "polars", "onnxruntime"} <= {line["part"] for line in told.lines()}
