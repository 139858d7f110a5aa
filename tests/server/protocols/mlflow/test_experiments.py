"""Experiments over MLflow's protocol."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from tests.server.protocols.mlflow.conftest import API, Server, error


def make(server: Server, name: str, **fields: object) -> str:
    return str(server.post("experiments/create", name=name, **fields)["experiment_id"])


def names(server: Server, **fields: object) -> list[str]:
    return [item["name"] for item in server.post("experiments/search", **fields).get("experiments", [])]


def test_the_default_experiment_is_always_there_with_the_id_0(both: Server) -> None:
    found = both.get("experiments/get", experiment_id="0")["experiment"]
    assert (found["name"], found["lifecycle_stage"], found["artifact_location"]) == (
        "Default",
        "active",
        "mlflow-artifacts:/0",
    )
    assert both.get("experiments/get-by-name", experiment_name="Default")["experiment"]["experiment_id"] == "0"
    assert names(both) == ["Default"]
    assert names(both, filter="name = 'Default'") == ["Default"]
    assert both.workspace.experiments.get("default").name == "default"


def test_an_experiment_comes_back_as_it_was_made(both: Server) -> None:
    made = make(both, "delays", tags=[{"key": "team", "value": "ops"}])
    found = both.get("experiments/get", experiment_id=made)["experiment"]
    assert (found["experiment_id"], found["name"]) == (made, "delays")
    assert found["tags"] == [{"key": "team", "value": "ops"}]
    assert isinstance(found["creation_time"], int)
    assert both.get("experiments/get-by-name", experiment_name="delays")["experiment"] == found


def test_where_artifacts_are_kept_is_not_for_the_client_to_say(server: Server) -> None:
    made = make(server, "delays", artifact_location="file:///etc")
    location = server.get("experiments/get", experiment_id=made)["experiment"]["artifact_location"]
    assert location == f"mlflow-artifacts:/{made}"


@pytest.mark.parametrize("name", ["taken", "Default"])
def test_a_name_that_is_taken_is_refused(server: Server, name: str) -> None:
    make(server, "taken")
    status, code, message = server.refused("experiments/create", name=name)
    assert (status, code) == (400, "RESOURCE_ALREADY_EXISTS")
    assert name in message


def test_the_name_of_a_deleted_experiment_is_taken_and_the_message_says_how_to_restore(server: Server) -> None:
    made = make(server, "gone")
    server.post("experiments/delete", experiment_id=made)
    status, code, message = server.refused("experiments/create", name="gone")
    assert (status, code) == (400, "RESOURCE_ALREADY_EXISTS")
    assert "restore" in message


def test_of_two_clients_that_make_one_experiment_at_once_one_succeeds(both: Server) -> None:
    def attempt(_: int) -> int:
        return httpx.post(f"{both.url}{API}/experiments/create", json={"name": "race"}, trust_env=False).status_code

    with ThreadPoolExecutor(16) as pool:
        statuses = sorted(pool.map(attempt, range(16)))
    assert statuses == [200] + [400] * 15
    assert names(both, filter="name = 'race'") == ["race"]


def test_64_clients_that_ask_for_the_default_experiment_at_once_all_get_it(both: Server) -> None:
    def attempt(_: int) -> int:
        query = {"experiment_id": "0"}
        return httpx.get(f"{both.url}{API}/experiments/get", params=query, trust_env=False, timeout=60).status_code

    with ThreadPoolExecutor(64) as pool:
        assert set(pool.map(attempt, range(64))) == {200}


def test_rename_tags_delete_and_restore(both: Server) -> None:
    made = make(both, "one")
    both.post("experiments/update", experiment_id=made, new_name="two")
    both.post("experiments/set-experiment-tag", experiment_id=made, key="a", value="1")
    both.post("experiments/set-experiment-tag", experiment_id=made, key="a", value="2")
    both.post("experiments/set-experiment-tag", experiment_id=made, key="b", value="3")
    both.post("experiments/delete-experiment-tag", experiment_id=made, key="b")
    found = both.get("experiments/get", experiment_id=made)["experiment"]
    assert (found["name"], found["tags"]) == ("two", [{"key": "a", "value": "2"}])
    assert found["last_update_time"] >= found["creation_time"]
    run = both.run(experiment_id=made)
    both.post("experiments/delete", experiment_id=made)
    assert both.get("experiments/get", experiment_id=made)["experiment"]["lifecycle_stage"] == "deleted"
    assert both.look(run)["info"]["lifecycle_stage"] == "deleted"
    assert both.refused("runs/create", experiment_id=made)[:2] == (400, "INVALID_PARAMETER_VALUE")
    both.post("experiments/restore", experiment_id=made)
    assert both.look(run)["info"]["lifecycle_stage"] == "active"


def test_the_default_experiment_keeps_its_name(server: Server) -> None:
    assert server.refused("experiments/update", experiment_id="0", new_name="x")[:2] == (400, "INVALID_PARAMETER_VALUE")


@pytest.mark.parametrize("unknown", ["9" * 32, "7", "delays", "' OR 1=1 --", "../../etc"])
def test_an_unknown_experiment_is_not_found(server: Server, unknown: str) -> None:
    make(server, "delays")
    answer = server.http.get(f"{API}/experiments/get", params={"experiment_id": unknown})
    assert error(answer)[:2] == (404, "RESOURCE_DOES_NOT_EXIST")
    by_name = server.http.get(f"{API}/experiments/get-by-name", params={"experiment_name": f"no {unknown}"})
    assert error(by_name)[:2] == (404, "RESOURCE_DOES_NOT_EXIST")


def test_search_pages_through_what_matches(both: Server) -> None:
    for number in range(7):
        make(both, f"delays {number}")
    found: list[str] = []
    token = ""
    while True:
        page = both.post(
            "experiments/search", filter="name LIKE 'delays%'", order_by=["name DESC"], max_results=3, page_token=token
        )
        found += [item["name"] for item in page["experiments"]]
        token = page.get("next_page_token", "")
        if not token:
            break
    assert found == [f"delays {number}" for number in range(6, -1, -1)]


def test_search_looks_at_the_living_the_deleted_or_all(both: Server) -> None:
    make(both, "kept")
    both.post("experiments/delete", experiment_id=make(both, "gone"))
    assert set(names(both)) == {"Default", "kept"}
    assert names(both, view_type="DELETED_ONLY") == ["gone"]
    assert names(both, view_type=2) == ["gone"]
    assert set(names(both, view_type="ALL")) == {"Default", "kept", "gone"}
    by_query = both.get("experiments/search", view_type="DELETED_ONLY", max_results="10")
    assert [item["name"] for item in by_query["experiments"]] == ["gone"]


@pytest.mark.parametrize(
    "fields",
    [
        {"view_type": "SOME"},
        {"max_results": -1},
        {"max_results": 50_001},
        {"max_results": "many"},
        {"filter": "name = "},
        {"filter": "name = 'x'; DROP TABLE experiments"},
        {"filter": "(" * 10_000},
        {"page_token": "tampered"},
        {"order_by": ["colour"]},
    ],
)
def test_a_malformed_search_is_refused(server: Server, fields: dict[str, object]) -> None:
    status, code, message = server.refused("experiments/search", **fields)
    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
    assert message


@pytest.mark.parametrize("name", ["", "x" * 501, "a\nb", "a\x00b"])
def test_a_name_that_cannot_be_stored_is_refused(server: Server, name: str) -> None:
    assert server.refused("experiments/create", name=name)[:2] == (400, "INVALID_PARAMETER_VALUE")
