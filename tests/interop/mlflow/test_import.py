"""`loopwright import mlflow`: stores that the real MLflow filled, compared by what MLflow's client reads back here."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.entities import Metric
from tests.interop.mlflow.filling import fill, truth

import loopwright as lw

_OURS = "loopwright."


def loopwright(*arguments: str) -> Any:
    """The object that a command prints with `--json`."""
    (found,) = lines(*arguments)
    return found


def lines(*arguments: str) -> list[Any]:
    """All objects that a command prints with `--json`."""
    command = [sys.executable, "-m", "loopwright", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """The address of a SQLite store that MLflow filled, and what its client says that it holds."""
    root = tmp_path_factory.mktemp("filled")
    uri = f"sqlite:///{root}/mlflow.db"
    fill(uri, str(root / "files"))
    return uri, truth(uri)


@pytest.fixture
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real `mlflow server` that keeps its clients' files."""
    root = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{root}/mlflow.db", "--artifacts-destination", str(root / "files")]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_TRACKING_URI": ""}
    with (root / "log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    uri = f"http://127.0.0.1:{port}"
    try:
        _wait(uri, process, root / "log")
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def _wait(uri: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(f"{uri}/health", timeout=1)
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(log.read_text())


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A workspace's folder, and the address of `loopwright up` on it."""
    root = tmp_path / "ws"
    root.mkdir()
    command = [sys.executable, "-m", "loopwright", "up", "--workspace", str(root), "--port", "0", "--json"]
    with (tmp_path / "up.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, (tmp_path / "up.log").read_text()
    yield str(root), json.loads(line)["url"]
    process.terminate()
    process.wait(20)


def without_marks(tags: dict[str, str]) -> dict[str, str]:
    """Tags without those that an import or export adds."""
    return {key: value for key, value in tags.items() if not key.startswith(_OURS)}


def told(held: dict[str, Any]) -> dict[str, Any]:
    """A truth without what an import adds or may change: its marks, and MLflow's own note of a moved model."""
    experiments = {
        name: {"tags": without_marks(item["tags"]), "stage": item["stage"]}
        for name, item in held["experiments"].items()
    }
    runs = {id: {**item, "tags": without_marks(item["tags"])} for id, item in held["runs"].items()}
    models = {
        name: {
            **item,
            "words": [item["words"][0], without_marks(item["words"][1]), item["words"][2]],
        }
        for name, item in held["models"].items()
    }
    logged = {id: [*item[:4], without_marks(item[4]), *item[5:]] for id, item in held["logged"].items()}
    return {"experiments": experiments, "runs": runs, "models": models, "logged": logged}


def test_an_import_from_a_database_holds_every_value_under_the_same_ids(
    filled: tuple[str, dict[str, Any]], serving: tuple[str, str]
) -> None:
    uri, expected = filled
    report = loopwright("import", "mlflow", uri, "-w", serving[0])
    assert report["omitted"] == []
    assert told(truth(serving[1])) == told(expected)
    assert report["counts"]["runs"] == len(expected["runs"]) == 5
    points = sum(len(points) for run in expected["runs"].values() for points in run["points"].values())
    assert report["counts"]["points"] == points > 1000


def test_an_import_from_a_folder_holds_every_value_under_the_same_ids(
    serving: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's own reader of such a folder takes 0 for the step of a point that names a dataset; the file has it."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "mlruns").as_uri()
    fill(uri, str(tmp_path / "files"))
    expected = truth(uri)
    report = loopwright("import", "mlflow", str(tmp_path / "mlruns"), "-w", serving[0])
    assert report["omitted"] == []
    found = truth(serving[1])
    for held in (found, expected):
        for run in held["runs"].values():
            run["points"].pop("auc", None)
    assert told(found) == told(expected)
    again = loopwright("import", "mlflow", uri, "-w", serving[0])
    assert (again["counts"], again["there"]["runs"]) == ({}, 5)


def test_an_import_from_a_server_holds_every_value_under_the_same_ids(
    mlflow_server: str, serving: tuple[str, str], tmp_path: Path
) -> None:
    fill(mlflow_server, str(tmp_path))
    expected = truth(mlflow_server)
    report = loopwright("import", "mlflow", mlflow_server, "-w", serving[0])
    assert report["omitted"] == []
    assert told(truth(serving[1])) == told(expected)


def test_an_import_from_postgresql_holds_every_value_under_the_same_ids(
    postgres_empty_url: str, serving: tuple[str, str], tmp_path: Path
) -> None:
    uri = postgres_empty_url.replace("postgresql://", "postgresql+psycopg://")
    fill(uri, str(tmp_path / "files"))
    expected = truth(uri)
    report = loopwright("import", "mlflow", postgres_empty_url, "-w", serving[0])
    assert report["omitted"] == []
    assert told(truth(serving[1])) == told(expected)


def test_files_arrive_byte_for_byte_and_models_load_from_them(
    filled: tuple[str, dict[str, Any]], serving: tuple[str, str], tmp_path: Path
) -> None:
    uri, expected = filled
    loopwright("import", "mlflow", uri, "-w", serving[0])
    there, here = mlflow.MlflowClient(uri), mlflow.MlflowClient(serving[1])
    compared = 0
    for run, item in expected["runs"].items():
        for path, _ in item["files"]:
            (tmp_path / run).mkdir(exist_ok=True)
            before = Path(there.download_artifacts(run, path)).read_bytes()
            assert Path(here.download_artifacts(run, path, str(tmp_path / run))).read_bytes() == before
            compared += 1
    assert compared >= 12
    mlflow.set_tracking_uri(serving[1])
    for ref in ("models:/delay model@champion", "models:/net/1", "models:/net copy/1"):
        folder = mlflow.artifacts.download_artifacts(ref, dst_path=str(tmp_path / ref.replace("/", "_")))
        assert (Path(folder) / "MLmodel").read_text().startswith("flavors:")


def test_a_dry_run_counts_what_the_import_then_carries_and_changes_nothing(
    filled: tuple[str, dict[str, Any]], tmp_path: Path
) -> None:
    planned = loopwright("import", "mlflow", filled[0], "-w", str(tmp_path), "--dry-run")
    assert lines("runs", "list", "-w", str(tmp_path)) == []
    done = loopwright("import", "mlflow", filled[0], "-w", str(tmp_path))
    assert (done["counts"], done["bytes"]) == (planned["counts"], planned["bytes"])


def test_a_second_import_brings_only_what_is_new(tmp_path: Path) -> None:
    uri, root = f"sqlite:///{tmp_path}/mlflow.db", str(tmp_path / "ws")
    client = mlflow.MlflowClient(uri)
    runs = [client.create_run("0").info.run_id for _ in range(3)]
    for run in runs:
        client.log_metric(run, "loss", 1.0, 1000, 1)
    first = loopwright("import", "mlflow", uri, "-w", root)
    again = loopwright("import", "mlflow", uri, "-w", root)
    client.log_batch(runs[1], [Metric("loss", 0.5, 500, 0), Metric("loss", 0.25, 2000, 2)])
    client.set_tag(runs[1], "seen", "yes")
    client.set_terminated(runs[1], "FINISHED", 5000)
    late = client.create_run("0").info.run_id
    third = loopwright("import", "mlflow", uri, "-w", root)
    assert (first["counts"]["runs"], again["counts"].get("runs"), again["there"]["runs"]) == (3, None, 3)
    assert (third["counts"]["runs"], third["there"]["runs"]) == (2, 2)
    held = {run["id"]: run for run in lines("runs", "list", "-w", root)}
    assert held.keys() == {*runs, late}
    assert (held[runs[1]]["status"], held[runs[1]]["tags"]["seen"]) == ("finished", "yes")
    assert loopwright("runs", "history", runs[1], "loss", "-w", root)["values"] == [0.5, 1.0, 0.25]


def test_a_run_of_another_project_or_of_our_own_is_never_overwritten(tmp_path: Path) -> None:
    uri, root = f"sqlite:///{tmp_path}/mlflow.db", str(tmp_path / "ws")
    client = mlflow.MlflowClient(uri)
    taken, own = (client.create_run("0", run_name="theirs").info.run_id for _ in range(2))
    loopwright("runs", "start", "--name", "ours", "--run-id", taken, "--project", "other", "-w", root)
    loopwright("runs", "start", "--name", "ours", "--run-id", own, "-w", root)
    report = loopwright("import", "mlflow", uri, "-w", root)
    reasons = {item["what"]: item["reason"] for item in report["omitted"]}
    assert "project 'other' has a run of that id" in reasons[f"run {taken}"]
    assert "that no import brought" in reasons[f"run {own}"]
    for run, project in ((taken, "other"), (own, "default")):
        assert loopwright("runs", "get", run, "--project", project, "-w", root)["name"] == "ours"


def test_a_killed_import_goes_on_where_it_broke_off(tmp_path: Path) -> None:
    uri, root = f"sqlite:///{tmp_path}/mlflow.db", str(tmp_path / "ws")
    client = mlflow.MlflowClient(uri)
    runs = [client.create_run("0").info.run_id for _ in range(300)]
    for run in runs:
        client.log_batch(run, [Metric("loss", step / 7, 1000 + step, step) for step in range(1000)])
    command = [sys.executable, "-m", "loopwright", "import", "mlflow", uri, "-w", root]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    marked = f"tags.`{_OURS}import_state` != ''"
    with lw.connect(root) as ws:  # a command a look would be too slow to catch it half-way
        while process.poll() is None and not ws.runs.search(marked, limit=1):
            time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "the import was over before it could be killed"
    whole = len(lines("runs", "search", "--filter", marked, "--limit", "1000", "-w", root))
    assert 0 < whole < len(runs)
    report = loopwright("import", "mlflow", uri, "-w", root)
    assert (report["there"]["runs"], report["counts"]["runs"]) == (whole, len(runs) - whole)
    for run in runs[::60]:
        assert loopwright("runs", "history", run, "loss", "-w", root)["steps"] == list(range(1000))


def renamed(held: dict[str, Any]) -> dict[str, Any]:
    """A truth of what was exported, under the ids that the runs and logged models had before."""
    runs = {id: item["tags"].get("loopwright.run_id", id) for id, item in held["runs"].items()}
    logged = {id: item[4].get("loopwright.model_id", id) for id, item in held["logged"].items()}
    before = {**runs, **logged}
    text = json.dumps(held)
    for id, old in before.items():
        text = text.replace(id, old)
    return dict(json.loads(text))


def carried(held: dict[str, Any]) -> dict[str, Any]:
    """What a round trip must keep of a truth: all but the places of files, the times at which MLflow made things, and
    the tag in which an MLflow server (and no SQLite client) notes the versions of a logged model."""
    held = told(held)
    for model in held["logged"].values():
        model[4].pop("mlflow.modelVersions", None)
    for model in held["models"].values():
        model["words"] = model["words"][:2]
        model["versions"] = {number: [item[1:4], without_marks(item[4])] for number, item in model["versions"].items()}
    return held


def test_what_is_exported_and_imported_again_is_what_it_was(
    filled: tuple[str, dict[str, Any]], mlflow_server: str, serving: tuple[str, str], tmp_path: Path
) -> None:
    uri, expected = filled
    first = str(tmp_path / "first")
    loopwright("import", "mlflow", uri, "-w", first)
    report = loopwright("export", "mlflow", mlflow_server, "-w", first)
    assert report["omitted"] == []
    there = truth(mlflow_server)
    assert carried(renamed(there)) == carried(expected)
    assert expected["runs"].keys().isdisjoint(there["runs"])
    again = loopwright("export", "mlflow", mlflow_server, "-w", first)
    assert {"runs", "versions", "files", "points"}.isdisjoint(again["counts"])
    loopwright("import", "mlflow", mlflow_server, "-w", serving[0])
    assert carried(renamed(truth(serving[1]))) == carried(expected)


def test_runs_that_were_exported_can_be_loaded_there(mlflow_server: str, tmp_path: Path) -> None:
    root = str(tmp_path / "ws")
    run = loopwright("runs", "start", "--name", "ours", "-w", root)["id"]
    values = json.dumps({"auc": 0.75, "loss/été": float(1)})
    loopwright("runs", "log-metrics", run, values, "-w", root)
    report = loopwright("export", "mlflow", mlflow_server, "-w", root)
    (found,) = mlflow.MlflowClient(mlflow_server).search_runs(["0"], f"tags.`loopwright.run_id` = '{run}'")
    assert (found.info.run_name, found.data.metrics) == ("ours", {"auc": 0.75, "loss/été": 1.0})
    assert report["counts"]["points"] == 2


def test_only_the_experiments_that_were_asked_for_come(filled: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    report = loopwright("import", "mlflow", filled[0], "-w", str(tmp_path), "--experiment", "second")
    assert (report["counts"]["runs"], report["counts"].get("models")) == (1, None)
    command = [sys.executable, "-m", "loopwright", "import", "mlflow", filled[0], "--experiment", "absent"]
    refused = subprocess.run([*command, "-w", str(tmp_path)], capture_output=True, text=True)
    assert refused.returncode == 3
    assert "no experiment 'absent'" in refused.stderr
