"""The model registry over raw HTTP: names, versions, stages, aliases, tags, search; and our side of it."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from tests.server.protocols.mlflow.conftest import API, Server, error, told

from loopwright.core import Conflict
from loopwright.govern import Role
from loopwright.models import Kind
from loopwright.workspace import Workspace

PROXY = "/api/2.0/mlflow-artifacts/artifacts"


def ask(server: Server, method: str, path: str, **fields: Any) -> httpx.Response:
    return server.ask(method, path, "", fields)


def model(server: Server, name: str = "delay", **fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = server.post("registered-models/create", name=name, **fields)["registered_model"]
    return found


def version(server: Server, name: str = "delay", source: str = "s3://bucket/model", **fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = server.post("model-versions/create", name=name, source=source, **fields)["model_version"]
    return found


def trained(server: Server) -> str:
    """A run with the files of a model in `model/`."""
    run = server.run()
    for path in ("MLmodel", "data/weights"):
        server.http.put(f"{PROXY}/0/{run}/artifacts/model/{path}", content=path.encode())
    return run


def pairs(tags: list[dict[str, str]]) -> dict[str, str]:
    return {tag["key"]: tag.get("value", "") for tag in tags}


def test_a_model_is_made_described_tagged_and_deleted(both: Server) -> None:
    made = model(both, tags=[{"key": "team", "value": "ops"}], description="minutes")
    assert (made["name"], made["description"], pairs(made["tags"])) == ("delay", "minutes", {"team": "ops"})
    assert both.refused("registered-models/create", name="delay")[:2] == (400, "RESOURCE_ALREADY_EXISTS")
    told(ask(both, "PATCH", "registered-models/update", name="delay", description="hours"))
    both.post("registered-models/set-tag", name="delay", key="empty", value="")
    told(ask(both, "DELETE", "registered-models/delete-tag", name="delay", key="team"))
    told(ask(both, "DELETE", "registered-models/delete-tag", name="delay", key="never"))
    found = both.get("registered-models/get", name="delay")["registered_model"]
    assert (found["description"], pairs(found["tags"])) == ("hours", {"empty": ""})
    assert told(ask(both, "DELETE", "registered-models/delete", name="delay")) == {}
    assert error(both.http.get(f"{API}/registered-models/get", params={"name": "delay"}))[:2] == (
        404,
        "RESOURCE_DOES_NOT_EXIST",
    )


def test_a_renamed_model_is_gone_under_its_old_name(both: Server) -> None:
    model(both)
    version(both)
    both.post("registered-models/rename", name="delay", new_name="late")
    assert error(both.http.get(f"{API}/registered-models/get", params={"name": "delay"}))[0] == 404
    assert both.get("model-versions/get", name="late", version="1")["model_version"]["name"] == "late"
    model(both, "other")
    assert both.refused("registered-models/rename", name="late", new_name="other")[1] == "RESOURCE_ALREADY_EXISTS"


def test_a_version_holds_the_files_of_its_run_for_good(both: Server) -> None:
    run = trained(both)
    model(both)
    made = version(both, source=f"mlflow-artifacts:/0/{run}/artifacts/model", run_id=run)
    assert (made["version"], made["run_id"], made["status"]) == ("1", run, "READY")
    both.http.delete(f"{PROXY}/0/{run}/artifacts")
    uri = both.get("model-versions/get-download-uri", name="delay", version="1")["artifact_uri"]
    root = uri.removeprefix("mlflow-artifacts:/")
    listed = told(both.http.get(PROXY, params={"path": root}))["files"]
    assert [(item["path"], item["is_dir"]) for item in listed] == [("MLmodel", False), ("data", True)]
    assert both.http.get(f"{PROXY}/{root}/data/weights").content == b"data/weights"
    named = {"name": "delay", "version": "1", "path": "MLmodel"}
    assert both.http.get("/model-versions/get-artifact", params=named).content == b"MLmodel"
    assert "does not change" in error(both.http.put(f"{PROXY}/{root}/MLmodel", content=b"x"))[2]
    assert "does not change" in error(both.http.delete(f"{PROXY}/{root}"))[2]
    held = both.workspace.models.get("delay@1")
    assert (held.kind, held.run, held.size_bytes) == (Kind.MLFLOW, run, 19)
    assert "model:delay@1" in [node.ref for node in both.workspace.stores.lineage.trace(f"run:{run}", "down").nodes]


def test_a_bundle_is_read_only_by_who_has_a_version_of_it(guarded: Server) -> None:
    editor = guarded.token(Role.EDITOR)
    run = told(guarded.http.post(f"{API}/runs/create", json={}, headers=editor))["run"]["info"]["run_id"]
    guarded.http.put(f"{PROXY}/0/{run}/artifacts/model/MLmodel", content=b"x", headers=editor)
    guarded.http.post(f"{API}/registered-models/create", json={"name": "m"}, headers=editor)
    source = {"name": "m", "source": f"runs:/{run}/model", "run_id": run}
    told(guarded.http.post(f"{API}/model-versions/create", json=source, headers=editor))
    path = f"{PROXY}/bundles/{guarded.workspace.models.get('m@1').bundle}/MLmodel"
    assert guarded.http.get(path, headers=guarded.token(Role.VIEWER)).content == b"x"
    other = guarded.token(Role.ADMIN, "elsewhere")
    assert guarded.http.get(f"/projects/elsewhere{path}", headers=other).status_code == 404
    assert guarded.http.get(path, headers=other).status_code == 403


@pytest.mark.parametrize(
    "source",
    [
        "/etc/passwd",
        "file:///etc",
        "relative/path",
        "C:\\Windows",
        "s3://bucket/../other",
        "s3://bucket/%2e%2e/other",
        "http://host/api/2.0/mlflow-artifacts/artifacts/../../x",
        "mlflow-artifacts:/0/00000000000000000000000000000000/artifacts/model",
        "mlflow-artifacts:/etc/passwd",
        "models:/m-00000000000000000000000000000000/1",
        "models:/delay",
        "models://host/delay/1",
    ],
)
def test_a_source_that_is_no_place_of_its_maker_is_refused(server: Server, source: str) -> None:
    model(server)
    status, code, _ = server.refused("model-versions/create", name="delay", source=source, run_id=server.run())
    assert (status, code) in ((400, "INVALID_PARAMETER_VALUE"), (404, "RESOURCE_DOES_NOT_EXIST"))
    assert server.get("model-versions/search") == {}


def test_a_source_elsewhere_is_kept_as_it_is_written(both: Server) -> None:
    model(both)
    made = version(both, source="s3://bucket/model", run_id="not-a-run-of-ours", run_link="https://example.org/1")
    assert (made["source"], made["run_id"], made["run_link"]) == (
        "s3://bucket/model",
        "not-a-run-of-ours",
        "https://example.org/1",
    )
    assert both.get("model-versions/get-download-uri", name="delay", version="1") == {"artifact_uri": made["source"]}
    assert both.workspace.models.get("delay@1").kind is Kind.ELSEWHERE


def test_a_copy_holds_what_its_original_holds(both: Server) -> None:
    run = trained(both)
    model(both)
    model(both, "copy")
    version(both, source=f"runs:/{run}/model", run_id=run)
    both.post("registered-models/alias", name="delay", alias="champion", version="1")
    made = version(both, "copy", "models:/delay@champion")
    assert (made["source"], made["run_id"]) == ("models:/delay/1", run)
    models = both.workspace.models
    assert models.get("copy@1").bundle == models.get("delay@1").bundle


def test_a_version_of_a_logged_model_knows_it_and_its_run(both: Server) -> None:
    run = both.run()
    logged = both.post("logged-models", experiment_id="0", name="forest", source_run_id=run)["model"]["info"]
    both.http.put(f"{PROXY}/0/models/{logged['model_id']}/artifacts/MLmodel", content=b"x")
    model(both)
    made = version(both, source=f"models:/{logged['model_id']}", model_id=logged["model_id"])
    assert (made["run_id"], made["model_id"]) == (run, logged["model_id"])
    tags = pairs(both.get(f"logged-models/{logged['model_id']}")["model"]["info"]["tags"])
    assert json.loads(tags["mlflow.modelVersions"]) == [{"name": "delay", "version": 1}]


def test_release_refuses_a_version_that_it_cannot_serve_with_the_next_step(server: Server) -> None:
    run = trained(server)
    model(server)
    version(server, source=f"runs:/{run}/model", run_id=run)
    server.post("registered-models/alias", name="delay", alias="champion", version="1")
    workspace: Workspace = server.workspace
    assert workspace.models.resolve("delay@champion") == "model:delay@1"
    with pytest.raises(Conflict, match=r"holds an MLflow folder.*build_bundle"):
        workspace.endpoints.create("delay", "model:delay@champion")
    with pytest.raises(Conflict, match="no bundle that can be served"):
        workspace.models.manifest("delay@1")


def test_stages_move_and_archive(both: Server) -> None:
    model(both)
    for _ in range(2):
        version(both)

    def move(number: str, stage: str, **more: Any) -> httpx.Response:
        return ask(both, "POST", "model-versions/transition-stage", name="delay", version=number, stage=stage, **more)

    assert told(move("1", "production"))["model_version"]["current_stage"] == "Production"
    told(move("2", "Production", archive_existing_versions=True))
    found = both.post("registered-models/get-latest-versions", name="delay", stages=["Production", "Archived"])
    assert [(item["version"], item["current_stage"]) for item in found["model_versions"]] == [
        ("1", "Archived"),
        ("2", "Production"),
    ]
    assert error(move("1", "Nowhere"))[:2] == (400, "INVALID_PARAMETER_VALUE")
    assert error(move("9", "None"))[:2] == (404, "RESOURCE_DOES_NOT_EXIST")
    assert error(move("x", "None"))[:2] == (400, "INVALID_PARAMETER_VALUE")


def test_aliases_point_move_and_go(both: Server) -> None:
    model(both)
    for _ in range(2):
        version(both)
    for number in ("1", "2"):
        both.post("registered-models/alias", name="delay", alias="champion", version=number)
    found = both.get("registered-models/alias", name="delay", alias="champion")["model_version"]
    assert (found["version"], found["aliases"]) == ("2", ["champion"])
    moves = both.workspace.stores.events.read(kinds=["model.alias_moved"])
    assert [event.evidence["to"] for event in moves] == [1, 2]
    told(ask(both, "DELETE", "registered-models/alias", name="delay", alias="champion"))
    told(ask(both, "DELETE", "registered-models/alias", name="delay", alias="champion"))
    gone = both.http.get(f"{API}/registered-models/alias", params={"name": "delay", "alias": "champion"})
    assert error(gone)[:2] == (400, "INVALID_PARAMETER_VALUE")
    for alias in ("latest", "v3"):
        assert both.refused("registered-models/alias", name="delay", alias=alias, version="1")[0] == 400


def test_a_deleted_version_is_not_found_and_takes_its_aliases_along(both: Server) -> None:
    model(both)
    for _ in range(2):
        version(both)
    both.post("registered-models/alias", name="delay", alias="champion", version="2")
    told(ask(both, "DELETE", "model-versions/delete", name="delay", version="2"))
    answer = both.http.get(f"{API}/model-versions/get", params={"name": "delay", "version": "2"})
    assert error(answer)[:2] == (404, "RESOURCE_DOES_NOT_EXIST")
    assert "aliases" not in both.get("registered-models/get", name="delay")["registered_model"]
    assert version(both)["version"] == "3"


def test_searches_page_and_leave_prompts_out(both: Server) -> None:
    for number in range(5):
        model(both, f"model-{number}")
        version(both, f"model-{number}", tags=[{"key": "n", "value": str(number)}])
    model(both, "greeting", tags=[{"key": "mlflow.prompt.is_prompt", "value": "true"}])
    prompt = [{"key": "mlflow.prompt.is_prompt", "value": "true"}, {"key": "mlflow.prompt.text", "value": "Hi {{x}}"}]
    version(both, "greeting", source="dummy-source", tags=prompt)

    def names(**fields: Any) -> list[str]:
        found = both.get("registered-models/search", **fields).get("registered_models", [])
        return [item["name"] for item in found]

    page = both.get("registered-models/search", max_results=3)
    assert [item["name"] for item in page["registered_models"]] == ["model-0", "model-1", "model-2"]
    assert names(max_results=3, page_token=page["next_page_token"]) == ["model-3", "model-4"]
    assert names(filter="name ILIKE 'MODEL-%' and name != 'model-1'", order_by=["name DESC"])[:2] == [
        "model-4",
        "model-3",
    ]
    assert names(filter="tags.`mlflow.prompt.is_prompt` = 'true'") == ["greeting"]
    assert names(filter="name = 'greeting'") == []
    found = both.get("model-versions/search", filter="tags.n = '3'")["model_versions"]
    assert [item["name"] for item in found] == ["model-3"]
    assert len(both.get("model-versions/search")["model_versions"]) == 5
    refused = both.http.get(f"{API}/registered-models/search", params={"page_token": "tampered"})
    assert error(refused)[:2] == (400, "INVALID_PARAMETER_VALUE")


def test_the_registry_of_a_project_is_its_own(both: Server) -> None:
    model(both)
    assert both.get("registered-models/search", prefix="/projects/other") == {}
    both.post("registered-models/create", prefix="/projects/other", name="delay")
    told(both.ask("DELETE", "registered-models/delete", "/projects/other", {"name": "delay"}))
    assert both.get("registered-models/get", name="delay")["registered_model"]["name"] == "delay"


def test_to_change_the_registry_takes_the_right_to(guarded: Server) -> None:
    body = {"name": "delay"}
    create = f"{API}/registered-models/create"
    assert guarded.http.post(create, json=body).status_code == 401
    assert guarded.http.post(create, json=body, headers=guarded.token(Role.VIEWER)).status_code == 403
    assert guarded.http.post(create, json=body, headers=guarded.token(Role.EDITOR)).status_code == 200
