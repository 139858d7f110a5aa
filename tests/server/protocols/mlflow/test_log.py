"""Metrics, params and tags over MLflow's protocol."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from tests.server.protocols.mlflow.conftest import API, Server, error, told


def history(server: Server, run: str, key: str) -> list[tuple[object, int, int]]:
    points = server.get("metrics/get-history", run_id=run, metric_key=key).get("metrics", [])
    return [(point["value"], point["step"], point["timestamp"]) for point in points]


def raw(server: Server, path: str, body: str | bytes) -> httpx.Response:
    return server.http.post(f"{API}/{path}", content=body, headers={"Content-Type": "application/json"})


def test_points_params_and_tags_come_back(both: Server) -> None:
    run = both.run()
    both.post("runs/log-metric", run_id=run, key="loss", value=0.5, timestamp=1_700_000_000_001, step=1)
    both.post("runs/log-metric", run_id=run, key="loss", value=0.25, timestamp=1_700_000_000_002, step=2)
    both.post("runs/log-parameter", run_id=run, key="lr", value="0.1")
    both.post("runs/set-tag", run_id=run, key="team", value="ops")
    both.post("runs/set-tag", run_id=run, key="team", value="ml")
    both.post("runs/set-tag", run_id=run, key="gone", value="x")
    both.post("runs/delete-tag", run_id=run, key="gone")
    data = both.look(run)["data"]
    assert data["metrics"] == [{"key": "loss", "value": 0.25, "timestamp": 1_700_000_000_002, "step": 2}]
    assert data["params"] == [{"key": "lr", "value": "0.1"}]
    assert {tag["key"]: tag["value"] for tag in data["tags"]}.get("team") == "ml"
    assert "gone" not in {tag["key"] for tag in data["tags"]}
    assert history(both, run, "loss") == [(0.5, 1, 1_700_000_000_001), (0.25, 2, 1_700_000_000_002)]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ('"NaN"', "NaN"),
        ('"Infinity"', "Infinity"),
        ('"-Infinity"', "-Infinity"),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ('"0.5"', 0.5),
        ("1", 1.0),
        ("-0.0", 0.0),
        ("5e-324", 5e-324),
        ("1.7976931348623157e308", 1.7976931348623157e308),
        ("0.1", 0.1),
    ],
)
def test_each_float_comes_back_exactly(both: Server, sent: str, kept: object) -> None:
    run = both.run()
    told(raw(both, "runs/log-metric", f'{{"run_id": "{run}", "key": "m", "value": {sent}, "timestamp": 1}}'))
    told(
        raw(
            both,
            "runs/log-batch",
            f'{{"run_id": "{run}", "metrics": [{{"key": "b", "value": {sent}, "timestamp": "1", "step": "4"}}]}}',
        )
    )
    assert history(both, run, "m") == [(kept, 0, 1)]
    assert history(both, run, "b") == [(kept, 4, 1)]
    assert {item["key"]: item["value"] for item in both.look(run)["data"]["metrics"]} == {"m": kept, "b": kept}


@pytest.mark.parametrize("step", [0, -5, 2**53 + 1, 2**63 - 1, -(2**63), "7", "9007199254740993"])
def test_each_whole_step_comes_back_exactly(both: Server, step: object) -> None:
    run = both.run()
    both.post("runs/log-metric", run_id=run, key="m", value=1, timestamp=1, step=step)
    assert history(both, run, "m") == [(1.0, int(str(step)), 1)]


def test_the_last_point_is_that_of_the_highest_step_then_the_latest(both: Server) -> None:
    run = both.run()
    for value, step, timestamp in [(1, 5, 10), (2, 3, 99), (3, 5, 11), (4, 5, 9)]:
        both.post("runs/log-metric", run_id=run, key="m", value=value, timestamp=timestamp, step=step)
    assert both.look(run)["data"]["metrics"] == [{"key": "m", "value": 3.0, "timestamp": 11, "step": 5}]


def test_a_repeated_request_stores_a_point_once(both: Server) -> None:
    run = both.run()
    for _ in range(3):
        both.post("runs/log-metric", run_id=run, key="m", value=1, timestamp=1, step=1)
    assert len(history(both, run, "m")) == 1


@pytest.mark.parametrize("key", ["a", "x" * 250, "a/b/c", "a.b", ".", "..", "/", "a b", "Größe ✓", "loss (train) @ 5%"])
def test_a_key_of_any_printable_text_works(both: Server, key: str) -> None:
    run = both.run()
    both.post("runs/log-metric", run_id=run, key=key, value=1, timestamp=1)
    both.post("runs/log-parameter", run_id=run, key=key, value="v")
    both.post("runs/set-tag", run_id=run, key=key, value="t")
    data = both.look(run)["data"]
    assert [item["key"] for item in data["metrics"]] == [key]
    assert data["params"] == [{"key": key, "value": "v"}]
    assert {"key": key, "value": "t"} in data["tags"]
    assert history(both, run, key) == [(1.0, 0, 1)]


@pytest.mark.parametrize("key", ["", "x" * 251, "x" * 10_000, "a\nb", "a\x00b"])
def test_a_key_that_cannot_be_stored_is_refused(server: Server, key: str) -> None:
    run = server.run()
    for path, fields in [
        ("runs/log-metric", {"key": key, "value": 1, "timestamp": 1}),
        ("runs/log-parameter", {"key": key, "value": "v"}),
        ("runs/set-tag", {"key": key, "value": "v"}),
        ("runs/log-batch", {"metrics": [{"key": key, "value": 1, "timestamp": 1}]}),
        ("runs/log-batch", {"params": [{"key": key, "value": "1"}]}),
    ]:
        assert server.refused(path, run_id=run, **fields)[:2] == (400, "INVALID_PARAMETER_VALUE"), path
    assert "metrics" not in server.look(run)["data"]


NUL = "a\x00b"
POINT = {"key": "m", "value": 1, "timestamp": 1}


def test_a_nul_character_is_refused_on_both_databases_alike(both: Server) -> None:
    run = both.run()
    for path, fields in [
        ("runs/log-metric", {"run_id": NUL, **POINT}),
        ("runs/log-batch", {"run_id": NUL, "metrics": [POINT]}),
        ("runs/log-batch", {"run_id": NUL, "metrics": [{**POINT, "step": step} for step in range(300)]}),
        ("runs/log-parameter", {"run_id": NUL, "key": "p", "value": "v"}),
        ("runs/set-tag", {"run_id": NUL, "key": "t", "value": "v"}),
        ("runs/set-tag", {"run_id": run, "key": "t", "value": NUL}),
        ("runs/update", {"run_id": NUL, "status": "FINISHED"}),
        ("runs/delete", {"run_id": NUL}),
        ("runs/create", {"experiment_id": NUL}),
        ("runs/search", {"experiment_ids": [NUL]}),
        ("experiments/update", {"experiment_id": NUL, "new_name": "n"}),
        ("registered-models/create", {"name": NUL}),
    ]:
        assert both.refused(path, **fields)[:2] == (400, "INVALID_PARAMETER_VALUE"), path
    for path, fields in [
        ("runs/get", {"run_id": NUL}),
        ("metrics/get-history", {"run_id": run, "metric_key": NUL}),
        ("metrics/get-history", {"run_id": NUL, "metric_key": "m"}),
        ("experiments/get-by-name", {"experiment_name": NUL}),
    ]:
        refused = error(both.http.get(f"{API}/{path}", params=fields))
        assert refused[:2] == (400, "INVALID_PARAMETER_VALUE"), (path, refused)
    assert "metrics" not in both.look(run)["data"]


def test_a_long_text_is_cut_as_mlflows_server_does(both: Server) -> None:
    run = both.run()
    both.post("runs/log-parameter", run_id=run, key="p", value="x" * 1_000_000)
    both.post("runs/log-parameter", run_id=run, key="p", value="x" * 1_000_000)
    both.post("runs/set-tag", run_id=run, key="t", value="y" * 1_000_000)
    data = both.look(run)["data"]
    assert data["params"] == [{"key": "p", "value": "x" * 10_000}]
    assert {"key": "t", "value": "y" * 10_000} in data["tags"]


def test_a_param_keeps_its_value(both: Server) -> None:
    run = both.run()
    both.post("runs/log-parameter", run_id=run, key="lr", value="0.1")
    both.post("runs/log-parameter", run_id=run, key="lr", value="0.1")
    for path, fields in [
        ("runs/log-parameter", {"key": "lr", "value": "0.2"}),
        ("runs/log-batch", {"params": [{"key": "new", "value": "1"}, {"key": "lr", "value": "0.2"}]}),
    ]:
        status, code, message = both.refused(path, run_id=run, **fields)
        assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
        assert "'lr'" in message
        assert "0.1" in message
    assert both.look(run)["data"]["params"] == [{"key": "lr", "value": "0.1"}]


def test_a_tag_that_is_not_there_cannot_be_deleted(server: Server) -> None:
    run = server.run()
    status, code, message = server.refused("runs/delete-tag", run_id=run, key="none")
    assert (status, code) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert f"No tag with name: none in run with id {run}" in message


def test_a_run_is_renamed_by_its_tag(both: Server) -> None:
    run = both.run(run_name="one")
    both.post("runs/set-tag", run_id=run, key="mlflow.runName", value="two")
    assert both.look(run)["info"]["run_name"] == "two"
    both.post("runs/log-batch", run_id=run, tags=[{"key": "mlflow.runName", "value": "three"}])
    assert both.look(run)["info"]["run_name"] == "three"


def test_a_batch_stores_everything_or_nothing(both: Server) -> None:
    run = both.run()
    metrics = [{"key": f"m{number % 10}", "value": number, "timestamp": 5, "step": number} for number in range(800)]
    params = [{"key": f"p{number}", "value": str(number)} for number in range(100)]
    tags = [{"key": f"t{number}", "value": str(number)} for number in range(100)]
    both.post("runs/log-batch", run_id=run, metrics=metrics, params=params, tags=tags)
    data = both.look(run)["data"]
    assert {item["key"]: item["value"] for item in data["metrics"]} == {f"m{n}": 790.0 + n for n in range(10)}
    assert len(data["params"]) == 100
    assert len(history(both, run, "m3")) == 80
    spoiled = [*metrics[:5], {"key": "\x00", "value": 1, "timestamp": 1}]
    assert both.refused("runs/log-batch", run_id=run, metrics=spoiled, params=[{"key": "q", "value": "1"}])[0] == 400
    assert len(both.look(run)["data"]["params"]) == 100


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"metrics": [{"key": "m", "value": 1, "timestamp": 1}] * 1001}, "at most 1000 metrics. Got 1001 metrics"),
        ({"params": [{"key": f"p{n}", "value": "1"} for n in range(101)]}, "at most 100 params. Got 101 params"),
        ({"tags": [{"key": f"t{n}", "value": "1"} for n in range(101)]}, "at most 100 tags. Got 101 tags"),
        (
            {
                "metrics": [{"key": "m", "value": 1, "timestamp": 1}] * 950,
                "params": [{"key": f"p{n}", "value": "1"} for n in range(51)],
            },
            "at most 1000 metrics, params, and tags. Got 1001",
        ),
        ({"params": [{"key": "a", "value": "1"}, {"key": "a", "value": "1"}]}, "Duplicate parameter keys"),
        ({"metrics": [{"key": "m", "value": 1}]}, "Missing value for required parameter 'metrics[0].timestamp'"),
        ({"metrics": [{"value": 1, "timestamp": 1}]}, "Missing value for required parameter 'metrics[0].key'"),
        ({"params": [{"value": "1"}]}, "Missing value for required parameter 'params[0].key'"),
        ({"metrics": 5}, "Invalid value 5 for parameter 'metrics'"),
        ({"tags": [5]}, "Invalid value [5] for parameter 'tags'"),
    ],
)
def test_a_batch_beyond_the_limits_is_refused_in_mlflows_words(
    server: Server, fields: dict[str, object], words: str
) -> None:
    run = server.run()
    status, code, message = server.refused("runs/log-batch", run_id=run, **fields)
    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
    assert words in message


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"value": 1, "timestamp": 1}, "Missing value for required parameter 'key'"),
        ({"key": "m", "timestamp": 1}, "Missing value for required parameter 'value'"),
        ({"key": "m", "value": 1}, "Missing value for required parameter 'timestamp'"),
        ({"key": "m", "value": "much", "timestamp": 1}, "for parameter 'value'"),
        ({"key": "m", "value": True, "timestamp": 1}, "for parameter 'value'"),
        ({"key": "m", "value": [1], "timestamp": 1}, "for parameter 'value'"),
        ({"key": 5, "value": 1, "timestamp": 1}, "for parameter 'key'"),
        ({"key": "m", "value": 1, "timestamp": "soon"}, "for parameter 'timestamp'"),
        ({"key": "m", "value": 1, "timestamp": -1}, "timestamp is -1"),
        ({"key": "m", "value": 1, "timestamp": 10**17}, "timestamp is 1"),
        ({"key": "m", "value": 1, "timestamp": 1, "step": 1.5}, "for parameter 'step'"),
        ({"key": "m", "value": 1, "timestamp": 1, "step": 2**63}, "64-bit"),
        ({"key": "m", "value": 1, "timestamp": 1, "step": -(2**63) - 1}, "64-bit"),
    ],
)
def test_a_malformed_metric_is_refused_by_name(server: Server, fields: dict[str, object], words: str) -> None:
    run = server.run()
    status, code, message = server.refused("runs/log-metric", run_id=run, **fields)
    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
    assert words in message


@pytest.mark.parametrize("body", [b"{", b"[]", b"5", b"\xff\xfe", b'"{"', b'{"run_id": "\\ud800"}', b"[" * 100_000])
def test_a_body_that_is_no_json_object_is_refused(server: Server, body: bytes) -> None:
    assert error(raw(server, "runs/log-metric", body))[:2] == (400, "INVALID_PARAMETER_VALUE")


def test_old_clients_encode_twice(server: Server) -> None:
    run = server.run()
    inner = json.dumps({"run_id": run, "key": "p", "value": "1"})
    told(raw(server, "runs/log-parameter", json.dumps(inner)))
    assert server.look(run)["data"]["params"] == [{"key": "p", "value": "1"}]


def test_fields_that_are_null_or_unknown_count_for_nothing(server: Server) -> None:
    run = server.run()
    server.post("runs/log-metric", run_id=run, key="m", value=1, timestamp=1, step=None, colour="red", model_id=None)
    assert history(server, run, "m") == [(1.0, 0, 1)]


def test_64_clients_at_once_lose_no_point(both: Server) -> None:
    run = both.run()

    def work(number: int) -> None:
        with httpx.Client(base_url=both.url, trust_env=False, timeout=60) as http:
            for step in range(10):
                sent = {"run_id": run, "key": f"m{number % 4}", "value": number, "timestamp": number, "step": step}
                told(http.post(f"{API}/runs/log-metric", json=sent))

    with ThreadPoolExecutor(64) as pool:
        list(pool.map(work, range(64)))
    assert [len(history(both, run, f"m{number}")) for number in range(4)] == [160] * 4
