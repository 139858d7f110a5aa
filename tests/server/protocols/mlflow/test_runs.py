"""Runs over MLflow's protocol."""

from __future__ import annotations

import pytest
from tests.server.protocols.mlflow.conftest import API, Server, error

from loopwright.track import ExperimentService, RunStatus


def found(server: Server, **fields: object) -> list[str]:
    page = server.post("runs/search", **{"experiment_ids": ["0"], **fields})
    return [item["info"]["run_name"] for item in page.get("runs", [])]


def test_a_run_comes_back_as_it_was_made(both: Server) -> None:
    tags = [{"key": "mlflow.user", "value": "ann"}, {"key": "team", "value": "ops"}]
    run = both.run(experiment_id="0", start_time=1_700_000_000_123, run_name="first", tags=tags)
    info, data = both.look(run)["info"], both.look(run)["data"]
    assert (info["run_id"], info["run_uuid"], info["run_name"]) == (run, run, "first")
    assert (info["status"], info["lifecycle_stage"], info["user_id"]) == ("RUNNING", "active", "ann")
    assert (info["start_time"], info["experiment_id"]) == (1_700_000_000_123, "0")
    assert "end_time" not in info
    assert info["artifact_uri"] == f"mlflow-artifacts:/0/{run}/artifacts"
    assert {tag["key"]: tag["value"] for tag in data["tags"]} == {
        "mlflow.user": "ann",
        "team": "ops",
        "mlflow.runName": "first",
    }


def test_a_run_without_a_name_gets_one_and_the_tag_of_it(server: Server) -> None:
    seen = server.look(server.run())
    assert seen["info"]["run_name"]
    assert {"key": "mlflow.runName", "value": seen["info"]["run_name"]} in seen["data"]["tags"]


def test_two_different_names_are_refused(server: Server) -> None:
    tags = [{"key": "mlflow.runName", "value": "two"}]
    assert server.refused("runs/create", run_name="one", tags=tags)[:2] == (400, "INVALID_PARAMETER_VALUE")
    assert server.look(server.run(run_name="one", tags=[{"key": "mlflow.runName", "value": "one"}]))


def test_a_nested_run_knows_its_parent(both: Server) -> None:
    parent = both.run()
    child = both.run(tags=[{"key": "mlflow.parentRunId", "value": parent}])
    assert both.workspace.runs.get(child).parent == parent
    orphan = both.run(tags=[{"key": "mlflow.parentRunId", "value": "0" * 32}])
    assert both.workspace.runs.get(orphan).parent == ""


def test_a_run_is_the_same_run_in_the_rest_of_the_house(both: Server) -> None:
    run = both.run(run_name="shared")
    both.post("runs/log-parameter", run_id=run, key="lr", value="0.1")
    both.post("runs/log-metric", run_id=run, key="auc", value=0.9, timestamp=1, step=3)
    both.post("runs/update", run_id=run, status="FINISHED", end_time=1_900_000_000_000)
    ours = both.workspace.runs.get(run)
    assert (ours.name, ours.status, ours.params, ours.metrics) == (
        "shared",
        RunStatus.FINISHED,
        {"lr": "0.1"},
        {"auc": 0.9},
    )
    kinds = {event.kind for event in both.workspace.events.list()}
    assert {"run.started", "run.finished"} <= kinds


@pytest.mark.parametrize(
    ("status", "shown"),
    [("FINISHED", "FINISHED"), ("FAILED", "FAILED"), ("KILLED", "KILLED"), ("SCHEDULED", "RUNNING"), (3, "FINISHED")],
)
def test_a_run_ends_and_may_run_again(server: Server, status: object, shown: str) -> None:
    run = server.run()
    ended = server.post("runs/update", run_id=run, status=status, end_time="1900000000000", run_name="renamed")
    assert (ended["run_info"]["status"], ended["run_info"]["run_name"]) == (shown, "renamed")
    assert ended["run_info"].get("end_time") == (1_900_000_000_000 if shown != "RUNNING" else None)
    again = server.post("runs/update", run_id=run, status="RUNNING")["run_info"]
    assert again["status"] == "RUNNING"
    assert "end_time" not in again
    assert {"key": "mlflow.runName", "value": "renamed"} in server.look(run)["data"]["tags"]


def test_a_deleted_run_can_be_seen_and_restored_but_not_changed(both: Server) -> None:
    run = both.run(run_name="gone")
    both.post("runs/delete", run_id=run)
    assert both.look(run)["info"]["lifecycle_stage"] == "deleted"
    assert found(both) == []
    assert found(both, run_view_type="DELETED_ONLY") == ["gone"]
    for path, fields in [
        ("log-metric", {"key": "m", "value": 1, "timestamp": 1}),
        ("log-parameter", {"key": "p", "value": "1"}),
        ("set-tag", {"key": "t", "value": "1"}),
        ("update", {"status": "FINISHED"}),
    ]:
        status, code, message = both.refused(f"runs/{path}", run_id=run, **fields)
        assert (status, code) == (400, "INVALID_PARAMETER_VALUE"), path
        assert f"The run {run} must be in the 'active' state" in message
    both.post("runs/restore", run_id=run)
    assert found(both) == ["gone"]


@pytest.mark.parametrize("unknown", ["9" * 32, "nope", "' OR 1=1 --", "../../etc/passwd", "é" * 40])
def test_an_unknown_run_is_not_found_whatever_is_asked(server: Server, unknown: str) -> None:
    assert error(server.http.get(f"{API}/runs/get", params={"run_id": unknown}))[:2] == (404, "RESOURCE_DOES_NOT_EXIST")
    for path, fields in [
        ("runs/log-metric", {"key": "m", "value": 1, "timestamp": 1}),
        ("runs/log-parameter", {"key": "p", "value": "1"}),
        ("runs/set-tag", {"key": "t", "value": "1"}),
        ("runs/delete-tag", {"key": "t"}),
        ("runs/log-batch", {"metrics": [{"key": "m", "value": 1, "timestamp": 1}]}),
        ("runs/update", {"status": "FINISHED"}),
        ("runs/delete", {}),
        ("runs/restore", {}),
        ("runs/log-inputs", {"datasets": []}),
    ]:
        status, code, message = server.refused(path, run_id=unknown, **fields)
        assert (status, code) == (404, "RESOURCE_DOES_NOT_EXIST"), path
        assert f"Run with id={unknown} not found" in message


@pytest.mark.parametrize("path", ["runs/get", "runs/update", "runs/delete", "runs/log-metric", "runs/log-batch"])
def test_a_request_without_a_run_is_told_so_in_mlflows_words(server: Server, path: str) -> None:
    told = "Missing value for required parameter 'run_id'"
    if path == "runs/get":
        assert told in error(server.http.get(f"{API}/{path}"))[2]
        return
    for fields in ({}, {"run_id": ""}, {"run_id": None}):
        status, code, message = server.refused(path, **fields)
        assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
        assert told in message


def test_old_clients_call_a_run_by_its_uuid(server: Server) -> None:
    run = server.run()
    server.post("runs/log-parameter", run_uuid=run, key="p", value="1")
    assert server.get("runs/get", run_uuid=run)["run"]["data"]["params"] == [{"key": "p", "value": "1"}]


def test_search_filters_orders_and_pages(both: Server) -> None:
    for number in range(5):
        run = both.run(run_name=f"run {number}")
        both.post("runs/log-metric", run_id=run, key="acc", value=number / 10, timestamp=1)
        both.post("runs/log-parameter", run_id=run, key="lr", value="0.1" if number % 2 else "0.2")
    good = found(both, filter="metrics.acc > 0.05 and params.lr = '0.1'", order_by=["metrics.acc DESC"])
    assert good == ["run 3", "run 1"]
    assert found(both, filter="attributes.run_name ILIKE 'RUN %'", order_by=["attributes.run_name ASC"]) == [
        f"run {number}" for number in range(5)
    ]
    paged: list[str] = []
    token = ""
    while True:
        page = both.post(
            "runs/search", experiment_ids=["0"], max_results=2, order_by=["metrics.acc ASC"], page_token=token
        )
        paged += [item["info"]["run_name"] for item in page["runs"]]
        token = page.get("next_page_token", "")
        if not token:
            break
    assert paged == [f"run {number}" for number in range(5)]


def test_a_search_tells_metrics_params_tags_and_inputs_of_each_run(both: Server) -> None:
    run = both.run()
    both.post("runs/log-batch", run_id=run, metrics=[{"key": "m", "value": 1.5, "timestamp": 7, "step": 2}])
    [seen] = both.post("runs/search", experiment_ids=["0"])["runs"]
    assert seen == both.look(run)
    assert seen["data"]["metrics"] == [{"key": "m", "value": 1.5, "timestamp": 7, "step": 2}]


def test_runs_are_found_by_the_user_that_they_tell(server: Server) -> None:
    mine, _ = (server.run(run_name=user, tags=[{"key": "mlflow.user", "value": user}]) for user in ("ann", "bob"))
    assert server.look(mine)["info"]["user_id"] == "ann"
    assert found(server, filter="user_id = 'ann'") == ["ann"]
    assert found(server, filter="attributes.user_id LIKE '%'", order_by=["user_id DESC"]) == ["bob", "ann"]


def test_a_search_in_no_or_an_unknown_experiment_finds_nothing(server: Server) -> None:
    server.run()
    assert server.post("runs/search").get("runs", []) == []
    assert server.post("runs/search", experiment_ids=["9" * 32]).get("runs", []) == []


def test_a_search_names_any_number_of_experiments_without_looking_each_up(
    both: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `mlflow.search_runs(search_all_experiments=True)` asks: also with ids of other makers, and without arrays."""
    run = both.run(experiment_id="0")
    ids = ["0", *map(str, range(1, 70_000)), "of-another"]
    looked: list[str] = []
    monkeypatch.setattr(ExperimentService, "get", lambda _, id: looked.append(id))
    monkeypatch.setattr("loopwright.track.service.search_held", lambda *_, **__: None)
    for query in ("", "metrics.acc IS NULL"):
        [seen] = both.post("runs/search", experiment_ids=ids, filter=query)["runs"]
        assert seen["info"]["run_id"] == run
    assert looked == []


@pytest.mark.parametrize(
    "fields",
    [
        {"filter": "metrics.acc >"},
        {"filter": "params.lr = '0.1' OR 1=1"},
        {"filter": "'; DROP TABLE runs; --"},
        {"filter": "(" * 10_000},
        {"filter": "attributes.colour = 'red'"},
        {"order_by": ["metrics.acc SIDEWAYS"]},
        {"max_results": 0},
        {"max_results": 50_001},
        {"page_token": "eyJvZmZzZXQiOiAxfQ=="},
        {"page_token": "x" * 5000},
        {"run_view_type": "SOME"},
        {"experiment_ids": "0"},
    ],
)
def test_a_malformed_search_is_refused(server: Server, fields: dict[str, object]) -> None:
    server.run()
    status, code, _ = server.refused("runs/search", **{"experiment_ids": ["0"], **fields})
    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")


@pytest.mark.parametrize(
    "fields",
    [
        {"start_time": "yesterday"},
        {"start_time": -1},
        {"start_time": 10**18},
        {"tags": "x"},
        {"tags": [{"value": "1"}]},
        {"run_name": "x" * 501},
        {"run_name": "a\nb"},
        {"experiment_id": 7},
    ],
)
def test_a_malformed_run_is_refused(server: Server, fields: dict[str, object]) -> None:
    status, code, _ = server.refused("runs/create", **fields)
    assert (status, code) in ((400, "INVALID_PARAMETER_VALUE"), (404, "RESOURCE_DOES_NOT_EXIST"))


@pytest.mark.parametrize("query", ["= '{}'", "LIKE '{}%'", 'ilike "{}"', "!= 'mlflow-artifacts:/0/x'"])
def test_runs_of_the_default_experiment_are_found_by_the_address_that_they_tell(server: Server, query: str) -> None:
    run = server.run(experiment_id="0")
    place = server.get("runs/get", run_id=run)["run"]["info"]["artifact_uri"]
    text = f"attributes.artifact_uri {query.format(place)} and params.a != 'artifact_uri = /0/'"
    server.post("runs/log-parameter", run_id=run, key="a", value="b")
    found = server.post("runs/search", experiment_ids=["0"], filter=text)
    assert [item["info"]["run_id"] for item in found["runs"]] == [run]


def test_tags_that_are_too_long_are_cut_when_a_run_is_made(server: Server) -> None:
    """MLflow's server cuts them, too: a training job must not fail by a long note."""
    run = server.run(experiment_id="0", tags=[{"key": "note", "value": "x" * 20_000}])
    tags = {tag["key"]: tag["value"] for tag in server.get("runs/get", run_id=run)["run"]["data"]["tags"]}
    assert tags["note"] == "x" * 10_000
