"""What every release of MLflow's client can do with artifacts; asked by the newest and by the oldest alike."""

from __future__ import annotations

import os
from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import MlflowException


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_and_folders_go_up_and_come_down(client: mlflow.MlflowClient, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "a.txt").write_text("hello")
    (folder / "deep" / "er" / "b c ä%.bin").write_bytes(os.urandom(3_000_000))
    (folder / "empty").write_bytes(b"")
    with mlflow.start_run() as run:
        mlflow.log_artifacts(str(folder))
        mlflow.log_artifact(str(folder / "a.txt"), "copies")
        mlflow.log_text("text", "texts/note.md")
        mlflow.log_dict({"a": 1}, "dict.json")
    listed = {item.path: (item.is_dir, item.file_size) for item in client.list_artifacts(run.info.run_id)}
    assert listed["a.txt"] == (False, 5)
    assert listed["empty"] == (False, 0)
    assert listed["deep"] == (True, None)
    assert [item.path for item in client.list_artifacts(run.info.run_id, "texts")] == ["texts/note.md"]
    got = Path(mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path=""))
    assert tree(folder).items() <= tree(got).items()
    assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/texts/note.md") == "text"
    assert mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/dict.json") == {"a": 1}


def test_a_file_that_is_not_there_is_told_as_such(uri: str) -> None:
    assert uri
    with mlflow.start_run() as run:
        pass
    with pytest.raises((MlflowException, OSError)):
        mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="nothing.txt")
