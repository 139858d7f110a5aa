"""Work done through MLflow's unmodified client: run by `bench/tracking` with the interpreter that has it.

    python mlflow_client.py log|create URL CALLS [RUN]     prints one JSON object

With RUN nothing is read back: that is for a server that answers without storing, which shows the client's own limit.
"""

from __future__ import annotations

import json
import os
import sys
import time

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "1"

import mlflow


def log(client: mlflow.MlflowClient, calls: int, run: str) -> tuple[float, float]:
    """One `log_metric` a call, by the clock and by this process's processor time."""
    given, experiment = bool(run), "0"
    run = run or client.create_run(experiment).info.run_id
    for step in range(5):
        client.log_metric(run, "warm", 0.5, step=step)
    start, worked = time.perf_counter(), time.process_time()
    for step in range(calls):
        client.log_metric(run, "loss", step / 7, step=step)
    took, worked = time.perf_counter() - start, time.process_time() - worked
    if not given:
        found = sorted((point.step, point.value) for point in client.get_metric_history(run, "loss"))
        check(found, [(step, step / 7) for step in range(calls)])
    return took, worked


def create(client: mlflow.MlflowClient, calls: int) -> tuple[float, float]:
    """Whole runs with 5 params, 5 metrics and 5 tags through the fluent functions."""
    mlflow.set_experiment("created")
    texts = {f"t{number}": "text" for number in range(5)}
    start, worked = time.perf_counter(), time.process_time()
    for run in range(calls):
        with mlflow.start_run(tags=texts):
            mlflow.log_params({f"p{number}": number for number in range(5)})
            mlflow.log_metrics({f"m{number}": run + number / 7 for number in range(5)})
    took, worked = time.perf_counter() - start, time.process_time() - worked
    experiment = client.get_experiment_by_name("created")
    found, token = [], None
    while token != "":
        page = client.search_runs([experiment.experiment_id], max_results=1000, page_token=token)
        found += [run.data for run in page]
        token = page.token or ""
    check(sorted(run.metrics["m4"] for run in found), [run + 4 / 7 for run in range(calls)])
    check(
        {(len(run.params), run.params["p4"], len(run.metrics), run.tags["t4"]) for run in found}, {(5, "4", 5, "text")}
    )
    return took, worked


def check(found: object, expected: object) -> None:
    """Tell no time of a wrong answer."""
    if found != expected:
        raise SystemExit(f"read {str(found)[:200]}, wrote {str(expected)[:200]}")


def main() -> None:
    """Do the work and print its rate."""
    task, url, calls = sys.argv[1], sys.argv[2], int(sys.argv[3])
    mlflow.set_tracking_uri(url)
    client = mlflow.MlflowClient(url)
    run = sys.argv[4] if len(sys.argv) > 4 else ""
    took, worked = log(client, calls, run) if task == "log" else create(client, calls)
    print(json.dumps({"per_second": calls / took, "cpu_per_second": calls / worked}))


if __name__ == "__main__":
    main()
