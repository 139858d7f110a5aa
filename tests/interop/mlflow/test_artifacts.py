"""Artifacts with the newest client from PyPI, unmodified."""

from __future__ import annotations

import os
from pathlib import Path

import mlflow
import numpy as np
import pytest
from tests.interop.mlflow.artifacts import *  # noqa: F403  (the tests that every release passes)


def test_a_large_file_goes_up_in_parts(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert uri
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "true")
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", "1000000")
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE", "1000000")
    big = tmp_path / "big.bin"
    big.write_bytes(os.urandom(3_500_000))
    with mlflow.start_run() as run:
        mlflow.log_artifact(str(big), "deep/er")
    got = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="deep/er/big.bin")
    assert Path(got).read_bytes() == big.read_bytes()


def test_presigned_downloads_fall_back_to_this_server(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert uri
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "true")
    with mlflow.start_run() as run:
        mlflow.log_text("hello", "a.txt")
    got = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="a.txt")
    assert Path(got).read_text() == "hello"


def test_images_tables_and_figures_are_kept(client: mlflow.MlflowClient) -> None:
    from matplotlib import pyplot as plt

    with mlflow.start_run() as run:
        mlflow.log_image(np.zeros((4, 4, 3), dtype=np.uint8), "picture.png")
        mlflow.log_image(np.zeros((4, 4, 3), dtype=np.uint8), key="dog", step=3, synchronous=True)
        mlflow.log_table({"a": [1, 2], "b": ["x", "y"]}, "table.json")
        figure, _ = plt.subplots()
        mlflow.log_figure(figure, "plots/figure.png")
    found = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert {"picture.png", "images", "table.json", "plots"} <= found
    assert len(client.list_artifacts(run.info.run_id, "images")) == 2
    assert list(mlflow.load_table("table.json", run_ids=[run.info.run_id])["b"]) == ["x", "y"]
    assert mlflow.artifacts.load_image(f"runs:/{run.info.run_id}/picture.png").size == (4, 4)
