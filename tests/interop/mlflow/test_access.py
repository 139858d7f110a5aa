"""Tokens of a server that demands them, with MLflow's own variable."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import RestException

from loopwright.core import Scope
from loopwright.govern import Role, TokenService
from loopwright.workspace import open_workspace


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """A server that demands tokens, and a token of each role in the project `default`."""
    (tmp_path / "loopwright.toml").write_text('auth = "required"\n', encoding="utf-8")
    with open_workspace(tmp_path) as ws:
        service = TokenService(ws.stores, Scope("default", "user:test"))
        tokens = {role.value: service.create("ann", role).secret for role in Role}
    command = [sys.executable, "-m", "loopwright", "up", "--workspace", str(tmp_path), "--port", "0", "--json"]
    with (tmp_path / "up.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"], tokens
        process.terminate()
        process.wait(20)


def test_mlflow_tracking_token(guarded: tuple[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    url, tokens = guarded
    client = mlflow.MlflowClient(url)
    with pytest.raises(RestException) as refused:
        client.search_experiments()
    assert refused.value.error_code == "UNAUTHENTICATED"
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", tokens["editor"])
    run = client.create_run("0").info.run_id
    client.log_metric(run, "m", 1)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", tokens["viewer"])
    assert client.get_run(run).data.metrics == {"m": 1}
    with pytest.raises(RestException) as forbidden:
        client.log_metric(run, "m", 2)
    assert forbidden.value.error_code == "PERMISSION_DENIED"
    with pytest.raises(RestException):
        mlflow.MlflowClient(f"{url}/projects/other").search_experiments()
