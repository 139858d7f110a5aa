"""The model registry and logged models with the newest client from PyPI, unmodified."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from sklearn.linear_model import LogisticRegression
from tests.interop.mlflow.registry import *  # noqa: F403  (the tests that every release passes)

ROWS = np.random.default_rng(0).random((60, 3))
MODEL = LogisticRegression().fit(ROWS, (ROWS[:, 0] > 0.5).astype(int))


def registered() -> str:
    """The id of the logged model behind version 1 of the registered model `clf`."""
    with mlflow.start_run():
        made = mlflow.sklearn.log_model(MODEL, name="model", registered_model_name="clf", input_example=ROWS[:2])
    return str(made.model_id)


def test_a_logged_model_is_registered_and_loaded_by_alias_number_and_id(client: mlflow.MlflowClient) -> None:
    model_id = registered()
    client.set_registered_model_alias("clf", "champion", 1)
    assert client.get_model_version_by_alias("clf", "champion").version == "1"
    for address in ("models:/clf@champion", "models:/clf/1", "models:/clf/latest", f"models:/{model_id}"):
        loaded = mlflow.pyfunc.load_model(address)
        np.testing.assert_array_equal(loaded.predict(ROWS), MODEL.predict(ROWS))
    np.testing.assert_array_equal(mlflow.sklearn.load_model("models:/clf@champion").coef_, MODEL.coef_)
    client.delete_registered_model_alias("clf", "champion")
    with pytest.raises(MlflowException, match="alias champion not found"):
        client.get_model_version_by_alias("clf", "champion")


def test_a_copy_of_a_version_loads_alike(client: mlflow.MlflowClient) -> None:
    registered()
    client.set_registered_model_alias("clf", "champion", 1)
    made = client.copy_model_version("models:/clf@champion", "production")
    assert (made.name, made.version, made.source) == ("production", "1", "models:/clf/1")
    loaded = mlflow.pyfunc.load_model("models:/production/1")
    np.testing.assert_array_equal(loaded.predict(ROWS), MODEL.predict(ROWS))


def test_logged_models_know_their_run_params_metrics_and_versions(client: mlflow.MlflowClient) -> None:
    with mlflow.start_run() as run:
        made = mlflow.sklearn.log_model(MODEL, name="model", params={"C": "1.0"}, registered_model_name="clf")
        mlflow.log_metric("auc", 0.9, model_id=made.model_id)
        mlflow.MlflowClient().log_metric(run.info.run_id, "other", 0.8)
    found = mlflow.get_logged_model(made.model_id)
    assert (found.source_run_id, found.params, str(found.status)) == (run.info.run_id, {"C": "1.0"}, "READY")
    assert [(metric.key, metric.value) for metric in found.metrics] == [("auc", 0.9)]
    assert json.loads(found.tags["mlflow.modelVersions"])[0]["name"] == "clf"
    outputs = mlflow.get_run(run.info.run_id).outputs.model_outputs
    assert [output.model_id for output in outputs] == [made.model_id]
    mlflow.set_logged_model_tags(made.model_id, {"team": "ops"})
    search = client.search_logged_models
    experiments = [run.info.experiment_id]
    assert [item.model_id for item in search(experiments, "metrics.auc > 0.85 AND tags.team = 'ops'")] == [
        made.model_id
    ]
    assert list(search(experiments, "params.C = '2.0'")) == []
    client.delete_logged_model_tag(made.model_id, "team")
    client.delete_logged_model(made.model_id)
    assert list(search(experiments)) == []
    np.testing.assert_array_equal(mlflow.pyfunc.load_model("models:/clf/1").predict(ROWS), MODEL.predict(ROWS))


def test_models_serve_answers_from_our_registry(client: mlflow.MlflowClient, uri: str, tmp_path: Path) -> None:
    registered()
    client.set_registered_model_alias("clf", "champion", 1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    programs = Path(sys.executable).parent
    command = [programs / "mlflow", "models", "serve", "-m", "models:/clf@champion"]
    options = ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    path = f"{programs}{os.pathsep}{os.environ.get('PATH', '')}"
    environ = {**os.environ, "MLFLOW_TRACKING_URI": uri, "PATH": path}
    with (tmp_path / "serve.log").open("wb") as log:
        process = subprocess.Popen([*map(str, command), *options], env=environ, stdout=log, stderr=log)
        try:
            body = json.dumps({"inputs": ROWS[:5].tolist()}).encode()
            assert answered(f"http://127.0.0.1:{port}/invocations", body, process) == {
                "predictions": MODEL.predict(ROWS[:5]).tolist()
            }
        finally:
            process.terminate()
            process.wait(30)


def answered(url: str, body: bytes, process: subprocess.Popen[bytes]) -> object:
    """The answer of a server, as soon as it gives one."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    for _ in range(300):
        assert process.poll() is None
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except (ConnectionError, urllib.error.URLError):
            time.sleep(0.4)
    raise TimeoutError(url)


def test_prompts_are_kept_apart_from_models(client: mlflow.MlflowClient) -> None:
    client.create_registered_model("delay")
    made = mlflow.genai.register_prompt("greeting", "Hello {{name}}", tags={"team": "ops"})
    assert made.version == 1
    assert mlflow.genai.load_prompt("prompts:/greeting/1").format(name="Ann") == "Hello Ann"
    assert [item.name for item in client.search_registered_models()] == ["delay"]
    assert [item.name for item in mlflow.genai.search_prompts()] == ["greeting"]
