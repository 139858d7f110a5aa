"""What every release of MLflow's client can do with the model registry; asked by the newest and the oldest alike."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import RestException

from loopwright import connect

FILES = {"MLmodel": b"artifact_path: model\n", "data/weights.bin": b"\x00" * 1000}


def logged(tmp_path: Path) -> str:
    """A run that keeps the files of a model."""
    for name, data in FILES.items():
        path = tmp_path / "made" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    with mlflow.start_run() as run:
        mlflow.log_artifacts(str(tmp_path / "made"), "model")
    return str(run.info.run_id)


def test_models_are_made_described_tagged_searched_renamed_and_deleted(client: mlflow.MlflowClient) -> None:
    client.create_registered_model("delay", tags={"team": "ops"}, description="minutes")
    with pytest.raises(RestException) as refused:
        client.create_registered_model("delay")
    assert refused.value.error_code == "RESOURCE_ALREADY_EXISTS"
    client.set_registered_model_tag("delay", "n", 5)
    client.delete_registered_model_tag("delay", "team")
    found = client.update_registered_model("delay", "hours")
    assert (found.name, found.description) == ("delay", "hours")
    assert client.get_registered_model("delay").tags == {"n": "5"}
    for number in range(5):
        client.create_registered_model(f"other {number}")
    page = client.search_registered_models(filter_string="name LIKE 'other%'", max_results=2, order_by=["name DESC"])
    assert [item.name for item in page] == ["other 4", "other 3"]
    following = client.search_registered_models("name LIKE 'other%'", 2, ["name DESC"], page.token)
    assert [item.name for item in following] == ["other 2", "other 1"]
    client.rename_registered_model("delay", "late")
    client.delete_registered_model("late")
    for name in ("delay", "late"):
        with pytest.raises(RestException) as missing:
            client.get_registered_model(name)
        assert missing.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def test_versions_have_stages_tags_and_a_search(client: mlflow.MlflowClient, tmp_path: Path) -> None:
    run = logged(tmp_path)
    client.create_registered_model("delay")
    for _ in range(3):
        client.create_model_version("delay", f"runs:/{run}/model", run, tags={"a": "1"}, description="first")
    found = client.get_model_version("delay", "2")
    assert (str(found.version), found.run_id, found.tags, found.description) == ("2", run, {"a": "1"}, "first")
    assert found.status == "READY"
    client.set_model_version_tag("delay", "2", "b", "2")
    client.delete_model_version_tag("delay", "2", "a")
    assert client.update_model_version("delay", "2", "second").description == "second"
    assert client.get_model_version("delay", "2").tags == {"b": "2"}
    client.transition_model_version_stage("delay", "1", "Production")
    client.transition_model_version_stage("delay", "2", "Production", archive_existing_versions=True)
    latest = {item.current_stage: str(item.version) for item in client.get_latest_versions("delay")}
    assert latest == {"None": "3", "Production": "2", "Archived": "1"}
    assert [str(item.version) for item in client.search_model_versions(f"run_id = '{run}'")] == ["2", "1", "3"]
    client.delete_model_version("delay", "3")
    assert {str(item.version) for item in client.search_model_versions("name = 'delay'")} == {"1", "2"}


def test_a_version_is_downloaded_even_after_its_run_is_deleted(client: mlflow.MlflowClient, tmp_path: Path) -> None:
    run = logged(tmp_path)
    client.create_registered_model("delay")
    client.create_model_version("delay", f"runs:/{run}/model", run)
    client.delete_run(run)
    got = Path(mlflow.artifacts.download_artifacts("models:/delay/1"))
    kept = {path.relative_to(got).as_posix(): path.read_bytes() for path in got.rglob("*") if path.is_file()}
    assert FILES.items() <= kept.items()


def test_our_side_sees_the_version_and_the_run_behind_it(client: mlflow.MlflowClient, uri: str, tmp_path: Path) -> None:
    run = logged(tmp_path)
    client.create_registered_model("delay")
    client.create_model_version("delay", f"runs:/{run}/model", run)
    address, _, project = uri.partition("/projects/")
    with connect(address, project=project) as ws:
        held = ws.models.get("delay@1")
        assert (held.kind, held.run) == ("mlflow", run)
        assert f"run:{run}" in [node.ref for node in ws.lineage.trace("model:delay@1", direction="up").nodes]
