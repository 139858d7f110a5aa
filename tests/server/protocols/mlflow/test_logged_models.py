"""Logged models over raw HTTP."""

from __future__ import annotations

from typing import Any

from tests.server.protocols.mlflow.conftest import API, Server, error, told


def made(server: Server, name: str, **fields: Any) -> str:
    return str(server.post("logged-models", experiment_id="0", name=name, **fields)["model"]["info"]["model_id"])


def test_a_model_is_made_finished_tagged_and_deleted(both: Server) -> None:
    run = both.run()
    params, tags = [{"key": "depth", "value": "3"}], [{"key": "team", "value": "ops"}]
    id = made(both, "forest", model_type="Agent", source_run_id=run, params=params, tags=tags)
    both.post(f"logged-models/{id}/params", params=[{"key": "rate", "value": "0.1"}])
    told(both.ask("PATCH", f"logged-models/{id}/tags", "", {"tags": [{"key": "a/b", "value": "1"}]}))
    told(both.http.delete(f"{API}/logged-models/{id}/tags/team"))
    done = told(both.ask("PATCH", f"logged-models/{id}", "", {"status": "LOGGED_MODEL_READY"}))["model"]
    assert done == both.get(f"logged-models/{id}")["model"]
    info = done["info"]
    assert (info["status"], info["source_run_id"], info["model_type"]) == ("LOGGED_MODEL_READY", run, "Agent")
    assert info["tags"] == [{"key": "a/b", "value": "1"}]
    assert done["data"]["params"] == [{"key": "depth", "value": "3"}, {"key": "rate", "value": "0.1"}]
    told(both.ask("DELETE", f"logged-models/{id}", "", {}))
    assert error(both.http.get(f"{API}/logged-models/{id}"))[:2] == (404, "RESOURCE_DOES_NOT_EXIST")
    assert both.get(f"logged-models/{id}", allow_deleted="true")["model"]["info"]["name"] == "forest"


def test_metrics_of_a_run_are_noted_with_the_model_that_they_measure(both: Server) -> None:
    run, id = both.run(), made(both, "forest")
    point = {"key": "auc", "value": 0.9, "timestamp": 1000, "model_id": id, "dataset_name": "test"}
    both.post("runs/log-metric", run_id=run, step=1, **point)
    both.post("runs/log-batch", run_id=run, metrics=[{**point, "value": 0.8, "step": 2, "timestamp": 2000}])
    [found] = both.get(f"logged-models/{id}")["model"]["data"]["metrics"]
    assert found == {
        "key": "auc",
        "value": 0.8,
        "timestamp": 2000,
        "step": 2,
        "model_id": id,
        "run_id": run,
        "dataset_name": "test",
    }
    assert both.look(run)["data"]["metrics"][0]["value"] == 0.8
    status, code, _ = both.refused("runs/log-metric", run_id=run, **{**point, "model_id": "m-" + "0" * 32})
    assert (status, code) == (404, "RESOURCE_DOES_NOT_EXIST")


def test_models_are_searched_by_experiment_filter_and_dataset(both: Server) -> None:
    run = both.run()
    ids = [made(both, name, params=[{"key": "n", "value": name}]) for name in "abc"]
    for number, id in enumerate(ids):
        point = {"key": "auc", "value": number / 10, "timestamp": 1, "model_id": id, "dataset_name": f"d{number}"}
        both.post("runs/log-metric", run_id=run, **point)

    def found(**fields: Any) -> list[str]:
        models = both.post("logged-models/search", experiment_ids=["0"], **fields).get("models", [])
        return [item["info"]["name"] for item in models]

    assert found() == ["c", "b", "a"]
    assert found(filter="metrics.auc > 0.05 AND params.n != 'c'") == ["b"]
    assert found(datasets=[{"dataset_name": "d0"}]) == ["a"]
    assert found(order_by=[{"field_name": "metrics.auc", "ascending": True}]) == ["a", "b", "c"]
    page = both.post("logged-models/search", experiment_ids=["0"], max_results=2)
    again = both.post("logged-models/search", experiment_ids=["0"], max_results=2, page_token=page["next_page_token"])
    assert [item["info"]["name"] for item in again["models"]] == ["a"]
    assert both.refused("logged-models/search", experiment_ids=["0"], datasets=[{}])[0] == 400
    assert both.refused("logged-models/search", experiment_ids=["0"], filter="(" * 10_000)[0] == 400


def test_a_model_of_another_project_is_not_there(both: Server) -> None:
    id = made(both, "forest")
    assert both.http.get(f"/projects/other{API}/logged-models/{id}").status_code == 404
