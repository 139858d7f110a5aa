"""Tracking with the newest client from PyPI, unmodified."""

from __future__ import annotations

import time

import mlflow
import mlflow.data
import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Metric
from tests.interop.mlflow.tracking import *  # noqa: F403  (the tests that every release passes)


def test_async_logging(client: mlflow.MlflowClient) -> None:
    run = client.create_run("0").info.run_id
    waiting = [client.log_metric(run, "m", step, step=step, synchronous=False) for step in range(200)]
    waiting.append(client.log_param(run, "p", "1", synchronous=False))
    waiting.append(client.set_tag(run, "t", "1", synchronous=False))
    for operation in waiting:
        operation.wait()
    assert len(client.get_metric_history(run, "m")) == 200
    assert client.get_run(run).data.params == {"p": "1"}


def test_async_logging_is_flushed(uri: str) -> None:
    mlflow.config.enable_async_logging()
    try:
        with mlflow.start_run() as run:
            for step in range(100):
                mlflow.log_metric("m", step, step=step)
        mlflow.flush_async_logging()
    finally:
        mlflow.config.enable_async_logging(False)
    assert len(mlflow.MlflowClient(uri).get_metric_history(run.info.run_id, "m")) == 100


def test_a_long_history_comes_in_pages(client: mlflow.MlflowClient) -> None:
    run = client.create_run("0").info.run_id
    for start in range(0, 30_000, 1000):
        client.log_batch(
            run, metrics=[Metric("m", step / 10, 1000 + step, step) for step in range(start, start + 1000)]
        )
    history = client.get_metric_history(run, "m")
    assert [point.step for point in history] == list(range(30_000))


def test_a_dataset_is_an_input_and_can_be_searched_by(uri: str) -> None:
    frame = pd.DataFrame({"x": [1.0, 2.0], "y": [0, 1]})
    dataset = mlflow.data.from_pandas(frame, source="flights.csv", name="flights", targets="y")
    with mlflow.start_run() as run:
        mlflow.log_input(dataset, context="training")
    [used] = mlflow.get_run(run.info.run_id).inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("flights", dataset.digest)
    assert '"num_rows": 2' in used.dataset.profile
    assert {tag.key: tag.value for tag in used.tags} == {"mlflow.data.context": "training"}
    found = mlflow.search_runs(["0"], filter_string="dataset.name = 'flights' and dataset.context = 'training'")
    assert list(found["run_id"]) == [run.info.run_id]


def test_a_metric_may_name_its_dataset(uri: str) -> None:
    dataset = mlflow.data.from_numpy(np.zeros((2, 2)), name="zeros")
    with mlflow.start_run() as run:
        mlflow.log_metrics({"auc": 0.9}, dataset=dataset)
    assert mlflow.get_run(run.info.run_id).data.metrics == {"auc": 0.9}


def test_system_metrics_are_metrics(uri: str) -> None:
    mlflow.set_system_metrics_sampling_interval(0.2)
    mlflow.set_system_metrics_samples_before_logging(1)
    with mlflow.start_run(log_system_metrics=True) as run:
        time.sleep(1.5)
    metrics = mlflow.get_run(run.info.run_id).data.metrics
    assert metrics["system/cpu_utilization_percentage"] >= 0
    assert metrics["system/system_memory_usage_megabytes"] > 0


def test_a_dead_server_is_told_after_the_clients_retries(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    with pytest.raises(mlflow.exceptions.MlflowException, match="Max retries exceeded"):
        mlflow.MlflowClient("http://127.0.0.1:9").get_run("x")


def test_no_retry_of_what_cannot_succeed(client: mlflow.MlflowClient) -> None:
    began = time.monotonic()
    for wrong in ("metrics.x >", "params.lr = 1", "nonsense"):
        with pytest.raises(mlflow.exceptions.MlflowException, match="INVALID_PARAMETER_VALUE"):
            client.search_runs(["0"], filter_string=wrong)
    assert time.monotonic() - began < 5
