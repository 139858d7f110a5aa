"""The keys that a search may name: all that the runs of a project or experiment have, and no others."""

from __future__ import annotations

import pytest

from loopwright.core import NotFound, Scope
from loopwright.store import Stores
from loopwright.track import RunService, vocabulary
from loopwright.track.vocabulary import KeysInUse, keys_in_use


@pytest.fixture
def runs(stores: Stores) -> RunService:
    return RunService(stores, Scope())


def logged(runs: RunService, experiment: str, key: str) -> str:
    run = runs.start(experiment, params={f"p {key}": "1"}, tags={f"t/{key}": "1"}).id
    runs.log_metrics(run, {f"m.{key}": 1.0})
    return run


def test_all_keys_are_told_by_project_and_by_experiment(runs: RunService) -> None:
    assert runs.keys() == KeysInUse([], [], [])
    for experiment, key in (("one", "b"), ("one", "a"), ("two", "c")):
        logged(runs, experiment, key)
    logged(RunService(runs.stores, Scope("other")), "one", "secret")
    assert runs.keys() == KeysInUse(["m.a", "m.b", "m.c"], ["p a", "p b", "p c"], ["t/a", "t/b", "t/c"])
    assert runs.keys("two") == KeysInUse(["m.c"], ["p c"], ["t/c"])
    with pytest.raises(NotFound):
        runs.keys("three")


def test_a_deleted_run_does_not_count(runs: RunService) -> None:
    gone = logged(runs, "one", "gone")
    logged(runs, "one", "there")
    runs.delete(gone)
    assert runs.keys().metrics == ["m.there"]


@pytest.mark.parametrize("sample", [1, 3, 100])
def test_what_only_old_runs_have_is_found_however_little_is_read_at_first(
    runs: RunService, monkeypatch: pytest.MonkeyPatch, sample: int
) -> None:
    """With rows of others before ours in each index, a small sample sees none of ours."""
    monkeypatch.setattr(vocabulary, "_SAMPLE", sample)
    for _ in range(5):
        logged(runs, "others", "shared")
        logged(runs, "others", "theirs")
    for key in ("shared", "old", "new"):
        logged(runs, "ours", key)
    with runs.stores.db.read() as connection:
        [experiment] = [item.id for item in runs.experiments() if item.name == "ours"]
        for newest in (1, 2, 100):
            ours = keys_in_use(connection, "default", experiment, newest)
            assert ours == KeysInUse(
                ["m.new", "m.old", "m.shared"], ["p new", "p old", "p shared"], ["t/new", "t/old", "t/shared"]
            )
            assert "m.theirs" in keys_in_use(connection, "default", "", newest).metrics
            assert keys_in_use(connection, "other", "", newest) == KeysInUse([], [], [])
