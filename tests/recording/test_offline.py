"""Runs whose server never answered: listed, searched, shown, compared and read from this machine's spools."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.test_commands import Told, run_here

AWAY = "http://127.0.0.1:9"
PROGRAM = """
import math, sys
import loopwright as lw
for lr in (0.1, 0.01, 0.5):
    with lw.start_run("digits", name=f"lr {lr}", params={"lr": lr}) as run:
        for step in range(100):
            lw.log_metric("loss", lr * (100 - step), step)
        lw.log_metric("acc", 1 - lr)
        lw.log_text("what happened", "notes/a.txt")
        if lr == 0.5:
            lw.log_metric("odd", math.nan)
    print(run.id, flush=True)
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's cache after a program recorded three runs for a server that is away, and one for another server."""
    folder = tmp_path_factory.mktemp("cache")
    for where, project in ((AWAY, "a"), ("http://127.0.0.1:19", "b")):
        environment = {
            **os.environ,
            "XDG_CACHE_HOME": str(folder),
            "LOOPWRIGHT_WORKSPACE": where,
            "LOOPWRIGHT_SYSTEM_METRICS_S": "0",
        }
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment, cwd=folder, check=True
        )
        (folder / project).write_text(done.stdout, encoding="utf-8")
    return folder


@pytest.fixture
def ids(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the three runs, oldest first, with the environment that a command of the same user has."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setenv("LOOPWRIGHT_WORKSPACE", AWAY)
    monkeypatch.delenv("LOOPWRIGHT_SPOOL", raising=False)
    monkeypatch.chdir(tmp_path)
    return (cache / "a").read_text(encoding="utf-8").split()


def ran(*arguments: str) -> Told:
    told = run_here(*arguments)
    assert told.code == 0, told.err
    assert told.err.count("this is what waits on this machine") == 1
    return told


def listed(*arguments: str) -> list[str]:
    return [json.loads(line)["id"] for line in ran("runs", "list", "--json", *arguments).out.splitlines()]


def test_runs_are_listed_newest_first_and_only_those_of_the_server(ids: list[str]) -> None:
    assert listed() == ids[::-1]
    assert "lr 0.5" in ran("runs", "list").out
    assert listed("--view", "deleted") == []
    assert listed("--experiment", "other") == []


def test_the_search_language_and_its_order_hold(ids: list[str]) -> None:
    assert listed("--filter", "metrics.acc > 0.6 and params.lr != '0.1'") == [ids[1]]
    assert listed("--filter", "metrics.odd IS NOT NULL") == [ids[2]]
    assert listed("--filter", "name LIKE 'lr%' and status = 'finished'", "--order-by", "metrics.acc") == [
        ids[2], ids[0], ids[1]
    ]  # fmt: skip
    assert run_here("runs", "list", "--filter", "nonsense >").code == 2


def test_pages_follow_each_other(ids: list[str]) -> None:
    first = ran("runs", "list", "--json", "--limit", "2")
    token = first.err.split("--after ")[1].split()[0]
    assert listed("--limit", "2", "--after", token) == [ids[0]]


def test_one_run_is_shown_with_its_files_and_histories(ids: list[str]) -> None:
    assert json.loads(ran("runs", "show", ids[0], "--json").out)["metrics"] == {"acc": 0.9, "loss": 0.1}
    assert "digits" in ran("runs", "show", ids[0]).out
    history = json.loads(ran("runs", "history", ids[0], "loss", "--first-step", "98", "--json").out)
    assert (history["steps"], history["values"]) == ([98, 99], [0.2, 0.1])
    page = json.loads(ran("runs", "history", ids[0], "loss", "--limit", "60", "--json").out)
    rest = json.loads(ran("runs", "history", ids[0], "loss", "--after", page["next"], "--json").out)
    assert page["steps"] + rest["steps"] == list(range(100))
    files = [json.loads(line) for line in ran("runs", "artifacts", ids[0], "--json").out.splitlines()]
    assert [(item["path"], item["size_bytes"]) for item in files] == [("notes/a.txt", 13)]


def test_runs_are_compared(ids: list[str]) -> None:
    found = json.loads(ran("runs", "compare", *ids[:2], "--json").out)
    assert found["params"] == [{"key": "lr", "values": ["0.1", "0.01"]}]
    assert "lr 0.01" in ran("runs", "compare", *ids[:2]).out


def test_what_waits_nowhere_says_that_the_server_is_away(ids: list[str]) -> None:
    told = run_here("runs", "show", "0" * 32)
    assert told.code == 4
    assert "does not answer" in told.err
    assert run_here("runs", "delete", ids[0]).code == 4
