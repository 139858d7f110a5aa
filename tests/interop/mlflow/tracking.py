"""What every release of MLflow's client can do with tracking; asked by the newest and by the oldest alike."""

from __future__ import annotations

import math
import threading
import time

import mlflow
import pytest
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException, RestException


def test_experiments(client: mlflow.MlflowClient) -> None:
    made = client.create_experiment("delays", tags={"team": "ops"})
    assert client.get_experiment(made).name == "delays"
    assert client.get_experiment_by_name("delays").tags == {"team": "ops"}
    assert client.get_experiment_by_name("none") is None
    assert client.get_experiment("0").name == "Default"
    client.set_experiment_tag(made, "team", "ml")
    client.rename_experiment(made, "arrivals")
    assert [item.name for item in client.search_experiments(filter_string="tags.team = 'ml'")] == ["arrivals"]
    client.delete_experiment(made)
    assert client.get_experiment(made).lifecycle_stage == "deleted"
    assert [item.name for item in client.search_experiments(view_type=ViewType.DELETED_ONLY)] == ["arrivals"]
    client.restore_experiment(made)
    assert {item.name for item in client.search_experiments()} == {"Default", "arrivals"}


def test_a_taken_name_is_told_as_mlflow_tells_it(client: mlflow.MlflowClient) -> None:
    client.create_experiment("delays")
    with pytest.raises(RestException) as refused:
        client.create_experiment("delays")
    assert refused.value.error_code == "RESOURCE_ALREADY_EXISTS"
    assert mlflow.set_experiment("delays").name == "delays"


def test_a_run_with_params_metrics_and_tags(uri: str) -> None:
    mlflow.set_experiment("delays")
    with mlflow.start_run(run_name="first") as run:
        mlflow.log_param("lr", 0.1)
        mlflow.log_params({"depth": 3, "name": "größe"})
        for step in range(5):
            mlflow.log_metric("loss", 1 / (step + 1), step=step)
        mlflow.log_metrics({"auc": 0.9, "nan": float("nan"), "inf": float("inf")}, step=7)
        mlflow.set_tag("team", "ops")
        mlflow.set_tags({"a": 1, "b": "x"})
    found = mlflow.get_run(run.info.run_id)
    assert (found.info.status, found.info.lifecycle_stage) == ("FINISHED", "active")
    assert found.info.end_time >= found.info.start_time
    assert found.data.params == {"lr": "0.1", "depth": "3", "name": "größe"}
    assert found.data.metrics["auc"] == 0.9
    assert math.isnan(found.data.metrics["nan"])
    assert found.data.metrics["inf"] == math.inf
    assert {"team": "ops", "a": "1", "b": "x", "mlflow.runName": "first"}.items() <= found.data.tags.items()
    history = mlflow.MlflowClient(uri).get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(step, 1 / (step + 1)) for step in range(5)]


def test_a_run_that_raises_has_failed(uri: str) -> None:
    with pytest.raises(ZeroDivisionError), mlflow.start_run() as run:
        raise ZeroDivisionError
    assert mlflow.get_run(run.info.run_id).info.status == "FAILED"


def test_nested_runs_know_their_parent(uri: str) -> None:
    with mlflow.start_run() as parent:
        for number in range(3):
            with mlflow.start_run(nested=True):
                mlflow.log_metric("m", number)
    children = mlflow.search_runs(["0"], filter_string=f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    assert sorted(children["metrics.m"]) == [0, 1, 2]


def test_a_run_goes_on_after_its_end(uri: str) -> None:
    with mlflow.start_run() as run:
        mlflow.log_metric("m", 1)
    with mlflow.start_run(run_id=run.info.run_id):
        assert mlflow.get_run(run.info.run_id).info.status == "RUNNING"
        mlflow.log_metric("m", 2, step=1)
    found = mlflow.get_run(run.info.run_id)
    assert (found.info.status, found.data.metrics) == ("FINISHED", {"m": 2})


def test_a_batch(client: mlflow.MlflowClient) -> None:
    run = client.create_run("0").info.run_id
    now = int(time.time() * 1000)
    client.log_batch(
        run,
        metrics=[Metric(f"m{number % 7}", number / 3, now + number, number) for number in range(800)],
        params=[Param(f"p{number}", str(number)) for number in range(100)],
        tags=[RunTag(f"t{number}", str(number)) for number in range(100)],
    )
    found = client.get_run(run).data
    assert len(found.params) == 100
    assert found.metrics["m1"] == 799 / 3
    assert len(client.get_metric_history(run, "m1")) == 115


def test_more_than_one_batch_holds_is_split_by_the_client(uri: str) -> None:
    with mlflow.start_run() as run:
        mlflow.log_metrics({f"m{number}": float(number) for number in range(900)})
        mlflow.log_params({f"p{number}": number for number in range(250)})
    found = mlflow.get_run(run.info.run_id).data
    assert (len(found.metrics), len(found.params)) == (900, 250)


def test_a_param_cannot_change(client: mlflow.MlflowClient) -> None:
    run = client.create_run("0").info.run_id
    client.log_param(run, "lr", 0.1)
    client.log_param(run, "lr", 0.1)
    with pytest.raises(MlflowException, match="INVALID_PARAMETER_VALUE"):
        client.log_param(run, "lr", 0.2)


def test_an_unknown_run_is_told_as_mlflow_tells_it(client: mlflow.MlflowClient) -> None:
    with pytest.raises(RestException, match="Run with id=nope not found") as refused:
        client.get_run("nope")
    assert refused.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def test_deleted_runs(client: mlflow.MlflowClient) -> None:
    run = client.create_run("0").info.run_id
    client.set_tag(run, "gone", "1")
    client.delete_tag(run, "gone")
    client.delete_run(run)
    assert client.search_runs(["0"]) == []
    assert [item.info.run_id for item in client.search_runs(["0"], run_view_type=ViewType.DELETED_ONLY)] == [run]
    client.restore_run(run)
    assert "gone" not in client.get_run(run).data.tags
    client.set_terminated(run, "KILLED")
    assert client.get_run(run).info.status == "KILLED"


def test_search_runs_gives_a_data_frame(uri: str) -> None:
    for number in range(6):
        with mlflow.start_run(run_name=f"run {number}"):
            mlflow.log_param("kind", "odd" if number % 2 else "even")
            mlflow.log_metric("acc", number / 10)
    frame = mlflow.search_runs(
        ["0"], filter_string="metrics.acc > 0.05 and params.kind = 'odd'", order_by=["metrics.acc DESC"]
    )
    assert list(frame["metrics.acc"]) == [0.5, 0.3, 0.1]
    assert list(frame["tags.mlflow.runName"]) == ["run 5", "run 3", "run 1"]
    assert {"run_id", "experiment_id", "status", "artifact_uri", "start_time", "end_time"} <= set(frame.columns)
    assert len(mlflow.search_runs(["0"], max_results=4)) == 4


def test_pages_of_runs(client: mlflow.MlflowClient) -> None:
    made = [client.create_run("0").info.run_id for _ in range(7)]
    seen, token = [], None
    while True:
        page = client.search_runs(["0"], max_results=3, page_token=token)
        seen += [run.info.run_id for run in page]
        token = page.token
        if not token:
            break
    assert sorted(seen) == sorted(made)


def test_threads_of_one_client_lose_nothing(client: mlflow.MlflowClient) -> None:
    run = client.create_run("0").info.run_id

    def work(thread: int) -> None:
        for step in range(20):
            client.log_metric(run, f"m{thread}", step, step=step)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(client.get_metric_history(run, f"m{number}")) for number in range(8)] == [20] * 8
