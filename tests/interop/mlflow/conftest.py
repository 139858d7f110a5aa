"""A server that answers MLflow's unmodified client, with a project of its own for each test."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "2"
os.environ["LOOPWRIGHT_OUTGOING_ALLOW"] = "127.0.0.1"  # where the tests' receivers of webhooks are
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"

import mlflow

_numbers = itertools.count()


@pytest.fixture(scope="session")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running `loopwright up`."""
    root = tmp_path_factory.mktemp("up")
    command = [sys.executable, "-m", "loopwright", "up", "--workspace", str(root), "--port", "0", "--json"]
    with (root / "up.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (root / "up.log").read_text()
        yield str(json.loads(line)["url"])
        process.terminate()
        process.wait(20)


@pytest.fixture
def uri(up: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A tracking URI: a fresh project of the server, set as the client's."""
    found = f"{up}/projects/p{next(_numbers)}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", found)
    mlflow.set_tracking_uri(found)
    mlflow.set_experiment("Default")  # the client remembers that of the test before
    yield found
    while mlflow.active_run() is not None:
        mlflow.end_run()


@pytest.fixture
def client(uri: str) -> mlflow.MlflowClient:
    """MLflow's own client."""
    return mlflow.MlflowClient(uri)
