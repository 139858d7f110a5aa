"""The beginning of a run's id stands for it, as long as no other run of the project begins so."""

from __future__ import annotations

import pytest

from loopwright.core import Conflict, NotFound, Scope
from loopwright.store import Stores
from loopwright.track import RunService

FIRST, SECOND = "0197aaaa" + "0" * 24, "0197aabb" + "0" * 24


@pytest.fixture
def runs(stores: Stores) -> RunService:
    service = RunService(stores, Scope())
    for run in (FIRST, SECOND):
        service.start("e", run_id=run)
    RunService(stores, Scope("other")).start("e", run_id="0197aaaa" + "1" * 24)
    return service


def test_a_short_id_stands_for_the_run_where_a_person_asks_for_one(runs: RunService) -> None:
    assert runs.get("0197aaaa").id == runs.get("run:0197aaaa").id == FIRST
    runs.log_metrics(SECOND, {"m": 1.0})
    assert runs.history("0197aabb0", "m").values == [1.0]
    runs.log_artifact("0197aaaa", b"x", "f")
    assert [item.path for item in runs.artifacts("0197aaaa")] == ["f"]
    assert [run.id for run in runs.compare(["0197aaaa", "0197aabb"]).runs] == [FIRST, SECOND]
    runs.delete("0197aabb")
    assert runs.get(SECOND).lifecycle == "deleted"
    assert [event.subject for event in runs.stores.events.read(kinds=["run.deleted"])] == [f"run:{SECOND}"]


def test_an_ambiguous_one_lists_the_candidates(runs: RunService) -> None:
    with pytest.raises(Conflict, match=f"several runs begin with 0197aa: {FIRST}, {SECOND}"):
        runs.get("0197aa")


@pytest.mark.parametrize("start", ["0197aaaa1", "0197a", "0197AAAA", "", "0197aa%", "0" * 40, "run:", "zzzzzz"])
def test_what_begins_no_run_of_the_project_is_not_found(runs: RunService, start: str) -> None:
    with pytest.raises(NotFound, match="there is no run"):
        runs.get(start)
