"""Fills an MLflow store with everything that an import carries, through MLflow's own client of any version.

Run by itself (`python filling.py URI FOLDER`) in an environment with another MLflow, or imported. Says on stdout, as
JSON, what the client itself reads back from the store: the truth that an import is compared with.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag, ViewType

VALUES = (1.5, -0.0, math.nan, math.inf, -math.inf, 5e-324, 1e308, 0.1)


def fill(uri: str, folder: str) -> None:
    """Two experiments, five runs (one nested, one deleted, one failed, one running), files, models."""
    mlflow.set_tracking_uri(uri)
    client = MlflowClient(uri, registry_uri=uri)
    where = None if uri.startswith("http") else Path(folder, "first").resolve().as_uri()
    first = client.create_experiment("first model", artifact_location=where, tags={"team": "öps"})
    second = client.create_experiment("second", artifact_location=where and Path(folder, "second").resolve().as_uri())
    parent = _run(client, first, "whole run", 1_700_000_000_123)
    _run(client, first, "child", 1_700_000_001_000, {"mlflow.parentRunId": parent})
    deleted = _run(client, first, "gone", 1_700_000_002_000)
    client.set_terminated(_run(client, second, "failed", 1_700_000_003_000), "FAILED", 1_700_000_009_999)
    client.create_run("0", 1_700_000_004_000, {"mlflow.runName": "still running"})
    _models(client, parent)
    client.delete_run(deleted)
    client.delete_experiment(client.create_experiment("dropped", artifact_location=where))


def _run(client: MlflowClient, experiment: str, name: str, start: int, tags: dict[str, str] | None = None) -> str:
    run = client.create_run(experiment, start, {"mlflow.runName": name, "mlflow.user": "ann", **(tags or {})}).info
    points = [Metric("val/loss", value, start + 7 * step, step - 2) for step, value in enumerate(VALUES)]
    points += [Metric("acc", step / 1000, start + step, step) for step in range(300)]
    points += [
        Metric("acc", 0.25, start + 1, 2**53 + 1),
        Metric("same step", 1.0, 5, 0),
        Metric("same step", 2.0, 5, 0),
    ]
    client.log_batch(
        run.run_id, points, [Param("lr", "0.1"), Param("ü/key", "x" * 450)], [RunTag("note", "a\nb 'c' %")]
    )
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "weights.bin")
        data.write_bytes(os.urandom(100_000))
        client.log_artifact(run.run_id, str(data), "deep/folder")
    client.log_text(run.run_id, "<p>naïve</p>", "page.html")
    client.log_text(run.run_id, "flavors: {}\n", "model/MLmodel")
    if hasattr(client, "log_inputs"):
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset("flights", "abc123", "local", '{"uri": "x"}', '{"cols": []}', '{"rows": 3}')
        client.log_inputs(run.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
    client.set_terminated(run.run_id, "FINISHED", start + 60_001)
    return str(run.run_id)


def _models(client: MlflowClient, run: str) -> None:
    client.create_registered_model("delay model", {"owner": "ann"}, "predicts delays")
    source = f"{client.get_run(run).info.artifact_uri}/model"
    for number in range(3):
        client.create_model_version("delay model", source, run, {"n": str(number)}, description=f"v{number + 1}")
    client.delete_model_version("delay model", "2")
    client.transition_model_version_stage("delay model", "1", "Archived")
    client.transition_model_version_stage("delay model", "3", "Production")
    if hasattr(client, "set_registered_model_alias"):
        client.set_registered_model_alias("delay model", "champion", "3")
    if hasattr(client, "create_logged_model"):
        _logged(client, run)


def _logged(client: MlflowClient, run: str) -> None:
    from mlflow.entities import LoggedModelOutput

    experiment = client.get_run(run).info.experiment_id
    model = client.create_logged_model(experiment, "net", run, {"k": "v"}, {"depth": "3"}, "pytorch")
    client.log_outputs(run, [LoggedModelOutput(model.model_id, 4)])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "MLmodel")
        file.write_text("flavors: {torch: {}}\n")
        client.log_model_artifact(model.model_id, str(file))
    client.log_metric(
        run, "auc", 0.75, 1_700_000_000_500, 3, model_id=model.model_id, dataset_name="flights", dataset_digest="abc123"
    )
    client.finalize_logged_model(model.model_id, "READY")
    client.create_registered_model("net")
    client.create_model_version("net", f"models:/{model.model_id}", model_id=model.model_id)
    client.copy_model_version("models:/net/1", "net copy")


def truth(uri: str) -> dict[str, Any]:
    """What MLflow's client says that the store holds."""
    client = MlflowClient(uri, registry_uri=uri)
    experiments = client.search_experiments(view_type=ViewType.ALL)
    runs = client.search_runs(
        [item.experiment_id for item in experiments], run_view_type=ViewType.ALL, max_results=1000
    )
    return {
        "experiments": {
            item.name: {"tags": dict(item.tags), "stage": item.lifecycle_stage, "created": item.creation_time}
            for item in experiments
        },
        "runs": {run.info.run_id: _told(client, run, experiments) for run in runs},
        "models": {item.name: _model(client, item) for item in client.search_registered_models()},
        "logged": _logged_models(
            client, [item.experiment_id for item in experiments if item.lifecycle_stage == "active"]
        ),
    }


def _told(client: MlflowClient, run: Any, experiments: Any) -> dict[str, Any]:
    info, data = run.info, run.data
    names = {item.experiment_id: item.name for item in experiments}
    inputs = getattr(run, "inputs", None)
    outputs = getattr(run, "outputs", None)
    return {
        "experiment": names[info.experiment_id],
        "info": [info.run_name, info.status, info.start_time, info.end_time, info.user_id, info.lifecycle_stage],
        "params": dict(data.params),
        "tags": dict(data.tags),
        "points": {
            key: sorted(
                [point.step, point.timestamp, _text(point.value)]
                for point in client.get_metric_history(info.run_id, key)
            )
            for key in data.metrics
        },
        "datasets": [
            [item.dataset.name, item.dataset.digest, item.dataset.schema, {tag.key: tag.value for tag in item.tags}]
            for item in (inputs.dataset_inputs if inputs else [])
        ],
        "made": [[item.model_id, item.step] for item in (outputs.model_outputs if outputs else [])],
        "files": sorted(_files(client, info.run_id, "")),
    }


def _files(client: MlflowClient, run: str, folder: str) -> list[list[Any]]:
    found: list[list[Any]] = []
    for item in client.list_artifacts(run, folder):
        found += _files(client, run, item.path) if item.is_dir else [[item.path, item.file_size]]
    return found


def _model(client: MlflowClient, model: Any) -> dict[str, Any]:
    versions = client.search_model_versions(f"name='{model.name}'")
    return {
        "words": [model.description or "", dict(model.tags), model.creation_timestamp],
        "aliases": {key: int(value) for key, value in (getattr(model, "aliases", None) or {}).items()},
        "versions": {
            str(item.version): [
                item.source,
                item.run_id or "",
                item.current_stage,
                item.description or "",
                dict(item.tags),
                item.creation_timestamp,
            ]
            for item in versions
        },
    }


def _logged_models(client: MlflowClient, experiments: list[str]) -> dict[str, Any]:
    if not hasattr(client, "search_logged_models"):
        return {}
    return {
        item.model_id: [
            item.name,
            item.model_type,
            str(item.status),
            dict(item.params),
            dict(item.tags),
            item.source_run_id or "",
            sorted([m.key, m.step, _text(m.value), m.run_id, m.dataset_name] for m in item.metrics or []),
        ]
        for item in client.search_logged_models(experiments)
    }


def _text(value: float) -> str:
    """A value as text; the store writes an infinity as the greatest double."""
    return repr(math.copysign(math.inf, value) if abs(value) == sys.float_info.max else value)


if __name__ == "__main__":
    fill(sys.argv[1], sys.argv[2])
    json.dump(truth(sys.argv[1]), sys.stdout)
