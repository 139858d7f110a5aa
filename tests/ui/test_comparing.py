"""The page of compared runs: intervals of folds, differences to the baseline, axes that most runs have."""

from __future__ import annotations

import math
import re

import pytest
from tests.ui.conftest import Site

# Each has a site of its own.
pytestmark = pytest.mark.slow


@pytest.fixture
def folded(fresh: Site) -> list[str]:
    """Two runs of four folds, the second better by 0.02 in each; the first is the baseline."""
    ids = [fresh.ws.runs.start("digits", name=name).id for name in ("plain", "better")]
    for at, run in enumerate(ids):
        fresh.ws.runs.log_metrics(run, {f"fold_{fold}/auc": 0.8 + 0.01 * fold + 0.02 * at for fold in range(4)})
        fresh.ws.runs.finish(run)
    fresh.ws.runs.pin_baseline("digits", ids[0])
    return ids


def cells(page: str, metric: str) -> list[str]:
    """The texts of a metric's row, one for each run."""
    row = next(row for row in re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL) if f"<td>{metric}</td>" in row)
    return [re.sub(r"<[^>]+>", " ", cell).strip() for cell in re.findall(r'<td class="num">(.*?)</td>', row)]


def test_folds_give_intervals_of_each_run_and_of_the_difference(fresh: Site, folded: list[str]) -> None:
    [metric] = [item for item in fresh.ws.runs.compare(folded).metrics if item.key == "auc"]
    first, second = cells(fresh.client().get("/p/default/compare", params={"run": folded}).text, "auc")
    assert re.fullmatch(r"0\.815\s+0\.78\d* to 0\.84\d*, n = 4", first)
    found = re.fullmatch(r"0\.835\s+0\.8\d* to 0\.86\d*, n = 4\s+\+0\.02 \(\+0\.02 to \+0\.02\)", second)
    assert found, "each fold is better by the same, so the difference is certain"
    assert metric.intervals is not None
    assert metric.intervals[0] is not None
    # Student's t of 3 degrees of freedom, on Nadeau and Bengio's standard error of 4 folds.
    half = 3.1824 * math.sqrt(1 / 4 + 1 / 3) * 0.0129099
    assert metric.intervals[0].lower == pytest.approx(0.815 - half, abs=1e-5)


def test_differences_are_against_the_baseline_wherever_it_stands(fresh: Site, folded: list[str]) -> None:
    page = fresh.client().get("/p/default/compare", params={"run": folded[::-1]}).text
    better, baseline = cells(page, "auc")
    assert "+0.02 (" in better
    assert "(" not in baseline
    assert "Differences are against the baseline" in page


def test_one_run_alone_has_no_interval(fresh: Site) -> None:
    ids = [fresh.ws.runs.start("plain").id for _ in range(2)]
    for at, run in enumerate(ids):
        fresh.ws.runs.log_metrics(run, {"auc": 0.8 + at / 100})
    page = fresh.client().get("/p/default/compare", params={"run": ids}).text
    assert [cell.split() for cell in cells(page, "auc")] == [["0.8"], ["0.81", "+0.01"]]
    assert "n =" not in page


def test_an_axis_that_few_runs_have_takes_no_lines_out(fresh: Site) -> None:
    ids = []
    for number in range(5):
        params = {"lr": str(number), **({"rare": "1"} if number == 0 else {})}
        ids.append(fresh.ws.runs.start("plain", params=params).id)
        fresh.ws.runs.log_metrics(ids[-1], {"auc": 0.8 + number / 100})
    page = fresh.client().get("/p/default/compare", params={"run": ids}).text
    assert page.count("<polyline") == 5
