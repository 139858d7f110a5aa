"""Histories of metrics over MLflow's protocol."""

from __future__ import annotations

import pytest
from tests.server.protocols.mlflow.conftest import API, Server, error


def logged(server: Server, count: int, key: str = "m") -> str:
    run = server.run()
    for start in range(0, count, 1000):
        steps = range(start, min(start + 1000, count))
        metrics = [{"key": key, "value": step / 10, "timestamp": 1000 + step, "step": step} for step in steps]
        server.post("runs/log-batch", run_id=run, metrics=metrics)
    return run


@pytest.mark.slow
def test_a_history_is_whole_unless_pages_are_asked_for(both: Server) -> None:
    run = logged(both, 3000)
    whole = both.get("metrics/get-history", run_id=run, metric_key="m")
    assert [point["step"] for point in whole["metrics"]] == list(range(3000))
    assert "next_page_token" not in whole
    paged: list[int] = []
    token = ""
    while True:
        page = both.get("metrics/get-history", run_id=run, metric_key="m", max_results=1100, page_token=token)
        paged += [point["step"] for point in page["metrics"]]
        token = page.get("next_page_token", "")
        if not token:
            break
    assert paged == list(range(3000))


def test_an_unknown_metric_has_an_empty_history(server: Server) -> None:
    assert server.get("metrics/get-history", run_id=server.run(), metric_key="none").get("metrics", []) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "query",
    [
        {"max_results": 0},
        {"max_results": -1},
        {"max_results": "many"},
        {"page_token": "tampered"},
        {"page_token": "1.2.99999999999999999999"},
    ],
)
def test_a_malformed_page_is_refused(server: Server, query: dict[str, object]) -> None:
    sent = {"run_id": logged(server, 3), "metric_key": "m", **query}
    answer = server.http.get(f"{API}/metrics/get-history", params=sent)  # type: ignore[arg-type]
    assert error(answer)[:2] == (400, "INVALID_PARAMETER_VALUE")


def test_histories_of_several_runs_are_cut_at_the_limit(both: Server) -> None:
    runs = sorted([logged(both, 30), logged(both, 20)])
    told = both.get("metrics/get-history-bulk", run_id=runs, metric_key="m", max_results=40)["metrics"]
    assert len(told) == 40
    assert [point["run_id"] for point in told] == sorted(point["run_id"] for point in told)
    assert {point["run_id"] for point in told} == set(runs)


def test_histories_of_several_runs_are_thinned_out_each_by_itself(both: Server) -> None:
    long, short = logged(both, 1015), logged(both, 5)
    told = both.get("metrics/get-history-bulk-interval", run_ids=[long, short], metric_key="m", max_results=10)
    points = [(point["run_id"], point["step"], point["value"], point["timestamp"]) for point in told["metrics"]]
    expected = [(long, step) for step in (0, 102, 204, 306, 408, 510, 611, 712, 813, 1014)]
    expected += [(short, step) for step in range(5)]
    assert points == [(run, step, step / 10, 1000 + step) for run, step in expected]
    zoomed = both.get(
        "metrics/get-history-bulk-interval", run_ids=long, metric_key="m", start_step=100, end_step=104, max_results=10
    )
    assert [point["step"] for point in zoomed["metrics"]] == [100, 101, 102, 103, 104]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("get-history-bulk", {"metric_key": "m"}),
        ("get-history-bulk", {"run_id": ["x"] * 101, "metric_key": "m"}),
        ("get-history-bulk", {"run_id": ["x"]}),
        ("get-history-bulk-interval", {"metric_key": "m"}),
        ("get-history-bulk-interval", {"run_ids": ["x"] * 101, "metric_key": "m"}),
        ("get-history-bulk-interval", {"run_ids": ["x"], "metric_key": "m", "max_results": 2501}),
        ("get-history-bulk-interval", {"run_ids": ["x"], "metric_key": "m", "start_step": 5}),
        ("get-history-bulk-interval", {"run_ids": ["x"], "metric_key": "m", "start_step": 5, "end_step": 4}),
    ],
)
def test_a_malformed_request_for_several_is_refused(server: Server, path: str, query: dict[str, object]) -> None:
    answer = server.http.get(f"{API}/metrics/{path}", params=query)  # type: ignore[arg-type]
    assert error(answer)[:2] == (400, "INVALID_PARAMETER_VALUE")
