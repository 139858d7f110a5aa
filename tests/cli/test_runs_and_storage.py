"""Runs, experiments and garbage on the command line, and the pages that tell of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.cli.test_commands import Told, empty_folder, run_here
from tests.shape.source import ROOT

import loopwright
from loopwright.workspace import Workspace

__all__ = ["empty_folder"]


@pytest.fixture
def ws(empty_folder: Path, with_schema: Callable[[Path], Path]) -> Iterator[Workspace]:
    with loopwright.connect(str(with_schema(empty_folder))) as found:
        assert isinstance(found, Workspace)
        yield found


def finished(ws: Workspace, auc: float, **params: str) -> str:
    run = ws.runs.start("digits", params=params).id
    ws.runs.log_metrics(run, {"auc": auc})
    ws.runs.finish(run)
    return run


def ran(*arguments: str) -> Told:
    told = run_here(*arguments)
    assert told.code == 0, told.err
    return told


def test_the_list_the_run_and_the_comparison_show_the_change_to_the_baseline(ws: Workspace) -> None:
    base, other = finished(ws, 0.8, lr="1"), finished(ws, 0.85, lr="2")
    assert "baseline" not in ran("runs", "list").out
    ran("runs", "pin-baseline", "digits", base)
    listed = ran("runs", "list", "--order-by", "metrics.auc DESC").out
    assert "0.85 (+0.05)" in listed
    assert "(baseline)" in listed
    assert f"against the baseline {base}: auc +0.05" in ran("runs", "show", other).out
    assert "is the baseline" in ran("runs", "show", base).out
    compared = ran("runs", "compare", other, base).out
    assert re.search(r"auc +0\.85 +\+0\.05 +0\.8", compared)
    assert re.search(r"lr +2 +1", compared)
    assert "against the baseline" in compared


def test_a_comparison_shows_intervals_of_folds(ws: Workspace) -> None:
    ids = [ws.runs.start("digits").id for _ in range(2)]
    for at, run in enumerate(ids):
        ws.runs.log_metrics(run, {f"fold_{fold}/auc": 0.8 + 0.01 * fold + 0.02 * at for fold in range(4)})
    shown = ran("runs", "compare", *ids).out
    assert re.search(r"auc +0\.815 \[0\.\d+, 0\.\d+\] n=4", shown)


def test_a_page_tells_how_to_see_the_next(ws: Workspace) -> None:
    runs = [finished(ws, 0.8 + number / 100) for number in range(3)]
    told = ran("runs", "list", "--limit", "2")
    token = re.search(r"--after (\S+)", told.err)
    assert token is not None
    rest = ran("runs", "list", "--limit", "2", "--after", token[1], "--json")
    assert [run["id"] for run in rest.lines()] == [runs[0]]
    assert "--after" in ran("runs", "list", "--limit", "1", "--json").err
    assert "--after" not in rest.err


def test_what_is_deleted_is_restored_or_removed_for_good(ws: Workspace) -> None:
    run = finished(ws, 0.8)
    ws.runs.log_artifact(run, b"x" * 2048, "f")
    ran("runs", "delete", run)
    assert run not in ran("runs", "list").out
    assert run in ran("runs", "list", "--view", "deleted").out
    ran("runs", "restore", run)
    ran("experiments", "delete", "digits")
    assert "1 runs, 1 experiments, 0 model versions" in ran("gc", "--dry-run", "--older-than", "0").out
    held = json.loads(ran("hold", f"run:{run}", "--reason", "case 14", "--json").out)
    assert "case 14" in ran("holds").out
    assert f"kept, though deleted: run:{run}" in ran("gc", "--older-than", "0").out
    ran("release-hold", held["id"])
    gone = ran("gc", "--older-than", "0", "--grace", "0").out
    assert "1 runs, 1 experiments, 0 model versions and 0 logged models went" in gone
    assert "2.0 KiB" in gone
    assert run_here("runs", "show", run).code == 3


def test_a_hold_needs_a_reason(ws: Workspace) -> None:
    assert run_here("hold", "project:default").code == 2


def test_the_page_on_searching_works_as_it_is_written(ws: Workspace) -> None:
    page = (ROOT / "docs" / "how-to" / "search-and-compare.md").read_text(encoding="utf-8")
    [program] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(program, "search-and-compare.md", "exec"), {})
    run = ws.runs.search()[0].id
    lines = [line for line in re.findall(r"^\$ loopwright (.*)$", page, re.MULTILINE) if "--filter" not in line]
    assert lines
    for line in lines:
        told = run_here(*(run if word in ("RUN", "OTHER", "ANOTHER") else word for word in line.split()))
        assert told.code == 0, (line, told.err)


def test_the_filters_in_the_reference_are_filters() -> None:
    from loopwright.track import parse_filter

    for page in ("reference/search.md", "how-to/search-and-compare.md"):
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        shown = re.findall(r"--filter \"([^\"]+)\"", text) + re.findall(
            r"`((?:params|metrics)\.\w+ (?:!?=|>|IS)[^`]+)`", text
        )
        found = [parse_filter(filter) for filter in shown if "tags.team" not in filter]
        assert found
        assert all(found)
