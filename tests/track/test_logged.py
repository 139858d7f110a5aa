"""Logged models: made, finished, measured, found and deleted; on both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from loopwright.core import Conflict, Invalid, NotFound, Scope
from loopwright.store import Stores
from loopwright.track import (
    DatasetFilter,
    ExperimentService,
    LoggedMetric,
    LoggedModelService,
    LoggedOrder,
    LoggedStatus,
    RunService,
)

START = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture
def logged(stores: Stores) -> LoggedModelService:
    return LoggedModelService(stores, Scope(actor="user:ada"))


@pytest.fixture
def experiment(logged: LoggedModelService) -> str:
    return ExperimentService(logged.stores, logged.scope).create("delays").id


def point(key: str, value: float, step: int = 0, dataset: str = "", run: str = "") -> LoggedMetric:
    return LoggedMetric(key, value, step, START + timedelta(seconds=step), run, dataset)


def test_a_model_keeps_what_it_was_made_with(logged: LoggedModelService, experiment: str) -> None:
    run = RunService(logged.stores, logged.scope).start("delays")
    made = logged.create("delays", "forest", "classifier", run.id, {"depth": "3"}, {"team": "ops"})
    assert (made.experiment_id, made.source_run, made.status) == (experiment, run.id, LoggedStatus.PENDING)
    assert (made.params, made.tags, made.actor) == ({"depth": "3"}, {"team": "ops"}, "user:ada")
    assert logged.get(made.id) == made
    assert logged.finalize(made.id, LoggedStatus.READY).status is LoggedStatus.READY
    logged.log_params(made.id, {"depth": "4", "rate": "0.1"})
    assert logged.set_tags(made.id, {"team": "science"}).params == {"depth": "4", "rate": "0.1"}
    logged.delete_tag(made.id, "team")
    with pytest.raises(NotFound, match="No tag with key 'team'"):
        logged.delete_tag(made.id, "team")
    assert logged.get(made.id).tags == {}


def test_a_deleted_model_is_there_only_for_who_asks(logged: LoggedModelService, experiment: str) -> None:
    made = logged.create(experiment)
    logged.delete(made.id)
    for ask in (logged.get, logged.delete):
        with pytest.raises(NotFound, match="not found"):
            ask(made.id)
    assert logged.get(made.id, deleted=True).deleted
    assert logged.search([experiment]).models == []


def test_a_model_needs_an_experiment_of_its_project(logged: LoggedModelService, experiment: str) -> None:
    made = logged.create(experiment)
    elsewhere = LoggedModelService(logged.stores, Scope("elsewhere"))
    with pytest.raises(NotFound):
        elsewhere.get(made.id)
    with pytest.raises(NotFound, match="no experiment"):
        elsewhere.create(experiment)
    ExperimentService(logged.stores, logged.scope).delete(experiment)
    with pytest.raises(Conflict, match="is deleted"):
        logged.create(experiment)


def test_of_each_run_and_dataset_the_newest_point_counts(logged: LoggedModelService, experiment: str) -> None:
    made = logged.create(experiment)
    logged.log_metrics(made.id, [point("auc", 0.7, 2), point("auc", 0.9, 1), point("auc", 0.8, 2)])
    logged.log_metrics(
        made.id, [point("auc", 0.1, 1), point("auc", 0.5, 0, "test"), point("auc", float("nan"), 3, "x")]
    )
    found = {(item.dataset, str(item.value)) for item in logged.get(made.id).metrics}
    assert found == {("", "0.8"), ("test", "0.5"), ("x", "NaN")}
    with pytest.raises(Invalid):
        logged.log_many({made.id: [point("ok", 1), point("\n", 1)]})
    assert {item.key for item in logged.get(made.id).metrics} == {"auc"}


@pytest.fixture
def three(logged: LoggedModelService, experiment: str) -> list[str]:
    ids = []
    for number, name in enumerate(("a", "b", "c")):
        made = logged.create(experiment, name, "forest" if number else "line", "", {"n": str(number)}, {"t": name})
        ids.append(made.id)
        if number < 2:
            logged.log_metrics(made.id, [point("auc", 0.5 + number / 10, 1, "test"), point("auc", 0.9, 0, "train")])
    return ids


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ("", "cba"),
        ("name = 'b'", "b"),
        ("name LIKE '%' AND model_type = 'forest'", "cb"),
        ("params.n IN ('0', '2')", "ca"),
        ("tags.`t` != 'a'", "cb"),
        ("metrics.auc > 0.55", "ba"),
        ("metrics.auc < 0.55", "a"),
        ("metrics.auc IS NULL", "c"),
        ("status = 'LOGGED_MODEL_PENDING'", "cba"),
        ("status = 'READY'", ""),
        ("creation_timestamp > 0", "cba"),
    ],
)
def test_a_filter_finds_models(
    logged: LoggedModelService, experiment: str, three: list[str], filter: str, expected: str
) -> None:
    assert three
    assert "".join(item.name for item in logged.search([experiment], filter).models) == expected


def test_datasets_narrow_what_metrics_mean(logged: LoggedModelService, experiment: str, three: list[str]) -> None:
    assert three

    def found(filter: str, *datasets: str) -> str:
        named = [DatasetFilter(name) for name in datasets]
        return "".join(item.name for item in logged.search([experiment], filter, named).models)

    assert found("metrics.auc > 0.55", "test") == "b"
    assert found("metrics.auc > 0.55", "test", "train") == "ba"
    assert found("", "train") == "ba"
    assert found("", "nothing") == ""


@pytest.mark.parametrize("order", [[LoggedOrder("metrics.auc", True, "test")], [LoggedOrder("name")], []])
def test_pages_follow_each_other_without_gap(
    logged: LoggedModelService, experiment: str, three: list[str], order: list[LoggedOrder]
) -> None:
    whole = [item.id for item in logged.search([experiment], order_by=order).models]
    assert sorted(whole) == sorted(three)
    if order and order[0].field.startswith("metrics"):
        assert whole == [three[1], three[0], three[2]]
    paged: list[str] = []
    after = ""
    while True:
        page = logged.search([experiment], order_by=order, limit=1, after=after)
        paged += [item.id for item in page.models]
        after = page.next
        if not after:
            break
    assert paged == whole


@pytest.mark.parametrize("order", ["nothing", "params.x", "tags.x"])
def test_an_order_that_there_is_not_is_refused(logged: LoggedModelService, experiment: str, order: str) -> None:
    with pytest.raises(Invalid, match="Invalid order by field name"):
        logged.search([experiment], order_by=[LoggedOrder(order)])


def test_a_token_of_another_search_is_refused(logged: LoggedModelService, experiment: str, three: list[str]) -> None:
    assert three
    token = logged.search([experiment], limit=1).next
    for after in (token[8:], "x", "é"):
        with pytest.raises(Invalid, match="Invalid page token"):
            logged.search([experiment], limit=1, after=after)
    with pytest.raises(Invalid, match="Invalid page token"):
        logged.search([experiment], "name != 'a'", limit=1, after=token)
