"""Runs and experiments are changed, deleted and restored, alone and together."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from loopwright.core import Conflict, Invalid, NotFound, Scope, new_id
from loopwright.store import Stores
from loopwright.track import ExperimentService, RunService, RunStatus, View

THEN = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def runs(stores: Stores) -> RunService:
    return RunService(stores, Scope())


@pytest.fixture
def experiments(stores: Stores) -> ExperimentService:
    return ExperimentService(stores, Scope())


def test_a_run_takes_another_name_status_and_end(runs: RunService) -> None:
    run = runs.start(name="before").id
    changed = runs.update(run, name="after", status=RunStatus.FAILED, ended_at=THEN)
    assert (changed.name, changed.status, changed.ended_at) == ("after", "failed", THEN)
    again = runs.update(run, status=RunStatus.RUNNING)
    assert (again.name, again.status, again.ended_at) == ("after", "running", None)
    assert runs.update(run, status=RunStatus.FINISHED).ended_at is not None
    assert runs.update(run, ended_at=THEN).ended_at == THEN
    with pytest.raises(Invalid, match="can have no end"):
        runs.update(run, status=RunStatus.RUNNING, ended_at=THEN)
    with pytest.raises(Invalid, match="cannot name a run"):
        runs.update(run, name="a\nb")


def test_a_deleted_run_is_read_and_not_written_until_it_is_restored(runs: RunService) -> None:
    run, other = runs.start(tags={"k": "v"}).id, runs.start().id
    runs.delete(run)
    runs.delete(run)
    assert runs.get(run).lifecycle == "deleted"
    assert [found.id for found in runs.search()] == [other]
    assert [found.id for found in runs.search(view=View.DELETED)] == [run]
    assert {found.id for found in runs.search(view=View.ALL)} == {run, other}
    for write in (
        lambda: runs.log_metrics(run, {"m": 1.0}),
        lambda: runs.log_params(run, {"p": "1"}),
        lambda: runs.set_tags(run, {"t": "1"}),
        lambda: runs.delete_tag(run, "k"),
        lambda: runs.finish(run),
        lambda: runs.update(run, name="x"),
        lambda: runs.log_artifact(run, b"x", "x"),
    ):
        with pytest.raises(Conflict, match="is deleted"):
            write()
    runs.restore(run)
    runs.restore(run)
    runs.delete_tag(run, "k")
    assert (runs.get(run).lifecycle, runs.get(run).tags) == ("active", {})
    with pytest.raises(NotFound, match="no tag"):
        runs.delete_tag(run, "k")


def test_an_experiment_takes_its_runs_along_and_brings_those_back(
    runs: RunService, experiments: ExperimentService
) -> None:
    made = experiments.create("e", {"team": "ops"})
    first, second, alone = (runs.start("e").id for _ in range(3))
    runs.delete(alone)
    experiments.delete(made.id)
    experiments.delete(made.id)
    assert [runs.get(run).lifecycle for run in (first, second, alone)] == ["deleted"] * 3
    assert experiments.get("e").lifecycle == "deleted"
    with pytest.raises(Conflict, match="is deleted"):
        runs.start("e")
    with pytest.raises(Conflict, match="of run"):
        runs.restore(first)
    with pytest.raises(Conflict, match="but deleted"):
        experiments.create("e")
    for change in (
        lambda: experiments.rename(made.id, "f"),
        lambda: experiments.set_tag(made.id, "k", "v"),
        lambda: experiments.delete_tag(made.id, "team"),
    ):
        with pytest.raises(Conflict, match="is deleted"):
            change()
    experiments.restore(made.id)
    assert [runs.get(run).lifecycle for run in (first, second, alone)] == ["active", "active", "deleted"]
    assert experiments.get(made.id).tags == {"team": "ops"}


def test_an_experiment_has_one_name_and_many_tags(experiments: ExperimentService) -> None:
    made, other = experiments.create("a"), experiments.create("b")
    with pytest.raises(Conflict, match="already"):
        experiments.create("a")
    with pytest.raises(Conflict, match="already"):
        experiments.rename(made.id, "b")
    assert experiments.rename(made.id, "c").id == made.id
    assert experiments.find("a") is None
    experiments.set_tag(other.id, "k", "1")
    experiments.set_tag(other.id, "k", "2")
    assert experiments.get(other.id).tags == {"k": "2"}
    experiments.delete_tag(other.id, "k")
    with pytest.raises(NotFound, match="no tag"):
        experiments.delete_tag(other.id, "k")
    with pytest.raises(NotFound, match="no experiment"):
        experiments.get(new_id())
    with pytest.raises(Invalid, match="cannot name an experiment"):
        experiments.create("")


def test_another_project_neither_sees_nor_changes_an_experiment(stores: Stores, experiments: ExperimentService) -> None:
    made = experiments.create("mine")
    foreign = ExperimentService(stores, Scope(project="other"))
    for ask in (foreign.get, foreign.delete, foreign.restore):
        with pytest.raises(NotFound):
            ask(made.id)
    assert foreign.find("mine") is None
    assert foreign.search().experiments == []


def test_experiments_are_found_by_name_tags_and_times(experiments: ExperimentService) -> None:
    made = [experiments.create(f"e{number}", {"even": str(number % 2 == 0)}) for number in range(5)]
    experiments.set_tag(made[1].id, "late", "yes")
    experiments.delete(made[4].id)

    def names(filter: str = "", **more: object) -> list[str]:
        return [found.name for found in experiments.search(filter, **more).experiments]  # type: ignore[arg-type]  # of many kinds

    assert names() == ["e1", "e3", "e2", "e0"]
    assert names(view="all", order_by=("name DESC",)) == ["e4", "e3", "e2", "e1", "e0"]
    assert names(view="deleted") == ["e4"]
    assert names("tags.even = 'True'", order_by=("name",)) == ["e0", "e2"]
    assert names("tags.late IS NULL and name LIKE 'e%'", order_by=("creation_time ASC",)) == ["e0", "e2", "e3"]
    assert names("name ILIKE 'E1'") == ["e1"]
    assert names(f"experiment_id IN ('{made[2].id}', '{made[0].id}')", order_by=("name",)) == ["e0", "e2"]
    assert names("last_update_time > 1 and creation_time < 99999999999999") == ["e1", "e3", "e2", "e0"]
    assert names("last_update_time < 1") == []


def test_pages_of_experiments_follow_each_other(experiments: ExperimentService) -> None:
    for number in range(7):
        experiments.create(f"e{number}", {"half": str(number % 2)})
    got: list[str] = []
    after = ""
    while True:
        page = experiments.search("name != 'e3'", limit=2, order_by=("name",), after=after)
        got += [found.name for found in page.experiments]
        after = page.next
        if not after:
            break
    assert got == ["e0", "e1", "e2", "e4", "e5", "e6"]
    token = experiments.search(limit=2).next
    for bad in (token[:-1] + ("A" if token[-1] != "A" else "B"), "x"):
        with pytest.raises(Invalid, match="page token"):
            experiments.search(limit=2, after=bad)
    with pytest.raises(Invalid, match="page token"):
        experiments.search("name = 'e1'", limit=2, after=token)
    for limit in (0, 50_001):
        with pytest.raises(Invalid, match="cannot be given"):
            experiments.search(limit=limit)
    with pytest.raises(Invalid, match="by attributes only"):
        experiments.search(order_by=("tags.half",))


def test_an_experiment_remembers_when_it_was_changed(experiments: ExperimentService) -> None:
    made = experiments.create("a")
    experiments.set_tag(made.id, "k", "v")
    changed = experiments.get(made.id)
    assert made.updated_at is not None
    assert changed.updated_at is not None
    assert timedelta() <= changed.updated_at - made.updated_at < timedelta(minutes=1)
    assert changed.created_at == made.created_at
