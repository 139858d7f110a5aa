"""Work done through MLflow's unmodified client: run by `bench/tracking` with the interpreter that has it.

    python mlflow_client.py URL      reads a line a task, prints a JSON object for each

    log CALLS                 one `log_metric` a call, read back
    log CALLS RUN             the same without reading back: a server that stores nothing shows the client's limit
    create RUNS EXPERIMENT    whole runs with 5 params, 5 metrics and 5 tags, read back

One process serves all rounds, since importing the client takes seconds.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import time

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "1"

import mlflow


def log(client: mlflow.MlflowClient, calls: int, run: str = "") -> float:
    """Seconds of so many `log_metric`s."""
    given = bool(run)
    run = run or client.create_run("0").info.run_id
    for step in range(5):
        client.log_metric(run, "warm", 0.5, step=step)
    started()
    start = time.perf_counter()
    for step in range(calls):
        client.log_metric(run, "loss", step / 7, step=step)
    took = time.perf_counter() - start
    ended()
    if not given:
        found = sorted((point.step, point.value) for point in client.get_metric_history(run, "loss"))
        check(found, [(step, step / 7) for step in range(calls)])
    return took


def create(client: mlflow.MlflowClient, calls: int, name: str) -> float:
    """Seconds of so many runs through the fluent functions."""
    mlflow.set_experiment(name)
    texts = {f"t{number}": "text" for number in range(5)}
    started()
    start = time.perf_counter()
    for run in range(calls):
        with mlflow.start_run(tags=texts):
            mlflow.log_params({f"p{number}": number for number in range(5)})
            mlflow.log_metrics({f"m{number}": run + number / 7 for number in range(5)})
    took = time.perf_counter() - start
    ended()
    experiment = client.get_experiment_by_name(name)
    found, token = [], None
    while token != "":
        page = client.search_runs([experiment.experiment_id], max_results=1000, page_token=token)
        found += [run.data for run in page]
        token = page.token or ""
    check(sorted(run.metrics["m4"] for run in found), [run + 4 / 7 for run in range(calls)])
    check(
        {(len(run.params), run.params["p4"], len(run.metrics), run.tags["t4"]) for run in found}, {(5, "4", 5, "text")}
    )
    return took


def started() -> None:
    """Tell the other side that the time runs, and wait until it has taken its own counters."""
    say({"started": True})
    sys.stdin.readline()


def ended() -> None:
    """Tell the other side that the time has ended."""
    say({"ended": True})
    sys.stdin.readline()


def say(what: dict[str, object]) -> None:
    """One line of JSON for the other side, past whatever MLflow prints."""
    print(json.dumps(what), file=sys.__stdout__, flush=True)


def check(found: object, expected: object) -> None:
    """Tell no time of a wrong answer."""
    if found != expected:
        raise SystemExit(f"read {str(found)[:200]}, wrote {str(expected)[:200]}")


def main() -> None:
    """Do what is asked, line by line."""
    url = sys.argv[1]
    mlflow.set_tracking_uri(url)
    client = mlflow.MlflowClient(url)
    say({"ready": True})
    for line in iter(sys.stdin.readline, ""):
        task, calls, *more = line.split()
        with contextlib.redirect_stdout(io.StringIO()):
            took = (log if task == "log" else create)(client, int(calls), *more)
        say({"took": took})


if __name__ == "__main__":
    main()
