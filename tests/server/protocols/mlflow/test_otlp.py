"""Spans sent by OpenTelemetry's own exporter, and by hand in its JSON; and what MLflow's clients read of them."""

from __future__ import annotations

import base64
import gzip
import json
import sys
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import Link, StatusCode
from tests.server.protocols.mlflow.conftest import Server, error, told
from tests.server.protocols.mlflow.test_traces import V2, V3, search, start

from loopwright.govern import Role
from loopwright.server.protocols.mlflow import otlp_wire

TRACE, SPAN = "5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174"
HEADERS = {"x-mlflow-experiment-id": "0"}


def span(**more: Any) -> dict[str, Any]:
    times = {"startTimeUnixNano": "1795392000000000000", "endTimeUnixNano": "1795392001500000000"}
    return {"traceId": TRACE, "spanId": SPAN, "name": "call", "kind": 2, **times, **more}


def body(*spans: dict[str, Any]) -> dict[str, Any]:
    return {"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]}


@pytest.mark.parametrize("compression", list(Compression))
def test_opentelemetrys_exporter_sends_what_mlflows_clients_read(server: Server, compression: Compression) -> None:
    exporter = OTLPSpanExporter(f"{server.url}/v1/traces", headers=HEADERS, compression=compression)
    provider = TracerProvider(resource=Resource.create({"service.name": "shop", "pods": [1, 2]}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("order") as root:
        root.set_attributes({"n": 7, "x": 0.25, "yes": True, "words": ["a", "é"], "nan": float("nan")})
        with tracer.start_as_current_span("pay", links=[Link(root.get_span_context(), {"why": "x"})]) as child:
            child.record_exception(ValueError("no money"))
            child.set_status(StatusCode.ERROR, "refused")
    provider.shutdown()

    [found] = search(server, filter="span.name = 'pay' AND span.status = 'ERROR'")["traces"]
    id = f"tr-{root.get_span_context().trace_id:032x}"
    assert (found["trace_id"], found["state"], found["tags"]["mlflow.traceName"]) == (id, "OK", "order")
    assert (found["tags"]["service.name"], found["tags"]["pods"]) == ("shop", "[1, 2]")
    assert found["tags"]["mlflow.trace.spansLocation"] == "TRACKING_STORE"

    whole = told(server.http.get(f"{V3}/get", params={"trace_id": id}))["trace"]
    assert [item["name"] for item in whole["spans"]] == ["order", "pay"]
    first, second = whole["spans"]
    values = {pair["key"]: pair["value"] for pair in first["attributes"]}
    assert (values["n"], values["x"], values["yes"]) == (
        {"int_value": "7"},
        {"double_value": 0.25},
        {"bool_value": True},
    )
    assert values["words"] == {"array_value": {"values": [{"string_value": "a"}, {"string_value": "é"}]}}
    assert values["nan"] == {"string_value": "nan"}
    assert base64.b64decode(second["parent_span_id"]) == base64.b64decode(first["span_id"])
    assert second["status"] == {"code": "STATUS_CODE_ERROR", "message": "refused"}
    assert second["events"][0]["name"] == "exception"
    assert second["links"][0]["trace_id"] == first["trace_id"]
    many = told(server.http.get(f"{V3}/batchGet", params={"trace_ids": [id, f"tr-{'0' * 32}"]}))["traces"]
    assert many == [whole]

    file = server.http.get(f"/api/2.0/mlflow-artifacts/artifacts/0/traces/{id}/artifacts/traces.json")
    assert json.loads(file.json()["spans"][0]["attributes"]["mlflow.traceRequestId"]) == id
    assert server.http.get("/api/2.0/mlflow/get-trace-artifact", params={"request_id": id}).content == file.content


def test_json_is_taken_and_sent_again_is_there_once(server: Server) -> None:
    run = server.run(experiment_id="0")
    for _ in range(2):
        reply = server.http.post(
            "/v1/traces", json=body(span(status={"code": 2})), headers={**HEADERS, "x-mlflow-run-id": run}
        )
        assert (reply.status_code, reply.json()) == (200, {})
    [found] = search(server, filter=f"run_id = '{run}'")["traces"]
    assert (found["trace_id"], found["state"], found["execution_duration"]) == (f"tr-{TRACE}", "ERROR", "1.500s")
    assert len(told(server.http.get(f"{V3}/get", params={"trace_id": found["trace_id"]}))["trace"]["spans"]) == 1


def test_a_file_of_spans_is_read_as_well_as_spans_that_came_alone(server: Server) -> None:
    reply = server.http.post("/v1/traces", json=body(span()), headers=HEADERS)
    assert reply.status_code == 200
    place = "/api/2.0/mlflow-artifacts/artifacts/0/traces/{}/artifacts/traces.json"
    file = server.http.get(place.format(f"tr-{TRACE}")).content
    other = start(server)["trace_id"]
    assert told(server.http.get(f"{V3}/get", params={"trace_id": other}))["trace"]["spans"] == []
    assert server.http.put(place.format(other), content=file).status_code == 200
    pair = [told(server.http.get(f"{V3}/get", params={"trace_id": id}))["trace"] for id in (f"tr-{TRACE}", other)]
    assert pair[0]["spans"] == pair[1]["spans"] != []
    assert server.http.put(place.format(other), content=b'{"spans": [1]}').status_code == 200
    assert error(server.http.get(f"{V3}/get", params={"trace_id": other}))[1] == "DATA_LOSS"


@pytest.mark.parametrize(
    ("sent", "headers", "status", "words"),
    [
        (body(span()), {"x-mlflow-experiment-id": ""}, 422, "x-mlflow-experiment-id is missing"),
        (body(span()), {"x-mlflow-experiment-id": "f" * 32}, 404, "No Experiment"),
        (body(span(traceId="")), HEADERS, 422, "trace_id"),
        (body(span(spanId="zz" * 8)), HEADERS, 400, "no id of a span"),
        (body(span(startTimeUnixNano=str(1 << 63))), HEADERS, 400, "Unix nanoseconds"),
        ({}, HEADERS, 400, "no spans found"),
        ({"resourceSpans": 1}, HEADERS, 400, "Invalid OpenTelemetry format"),
        (body(span()), {**HEADERS, "content-type": "application/x-protobuf"}, 400, "Invalid OpenTelemetry format"),
        (body(span()), {**HEADERS, "content-type": "text/plain"}, 415, "content type"),
        (body(span()), {**HEADERS, "content-encoding": "gzip"}, 400, "Failed to decompress"),
        (body(span()), {**HEADERS, "content-encoding": "br"}, 400, "Unsupported Content-Encoding"),
    ],
)
def test_what_is_no_export_is_refused(
    server: Server, sent: dict[str, Any], headers: dict[str, str], status: int, words: str
) -> None:
    reply = server.http.post(
        "/v1/traces", content=json.dumps(sent), headers={"content-type": "application/json", **headers}
    )
    assert (reply.status_code, words in reply.json()["message"]) == (status, True), reply.text


def test_a_body_that_grows_beyond_its_bound_is_refused_early(server: Server) -> None:
    bomb = gzip.compress(b" " * (otlp_wire._MAX_BYTES + 1))
    headers = {**HEADERS, "content-type": "application/json", "content-encoding": "gzip"}
    assert server.http.post("/v1/traces", content=bomb, headers=headers).status_code == 413
    deep: Any = {"stringValue": "x"}
    for _ in range(60):
        deep = {"arrayValue": {"values": [deep]}}
    reply = server.http.post("/v1/traces", json=body(span(attributes=[{"key": "a", "value": deep}])), headers=HEADERS)
    assert (reply.status_code, "nests deeper" in reply.json()["message"]) == (422, True)


def test_without_protobuf_clients_are_told_to_send_files(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's client looks for these words, and sends spans as the trace's file from then on."""
    monkeypatch.setitem(sys.modules, "opentelemetry.proto.collector.trace.v1", None)
    headers = {**HEADERS, "content-type": "application/x-protobuf"}
    reply = server.http.post("/v1/traces", content=b"", headers=headers)
    assert reply.status_code == 501
    assert "REST OTLP span logging is not supported" in reply.json()["message"]
    assert "loopwright[otel]" in reply.json()["message"]


def test_only_who_may_write_sends_spans(guarded: Server) -> None:
    for role, status in ((Role.VIEWER, 403), (Role.EDITOR, 200)):
        headers = {**HEADERS, **guarded.token(role)}
        assert guarded.http.post("/v1/traces", json=body(span()), headers=headers).status_code == status
    assert guarded.http.post("/v1/traces", json=body(span()), headers=HEADERS).status_code == 401


def test_clients_of_mlflow_2_begin_and_end_traces(server: Server) -> None:
    begun = told(
        server.http.post(
            V2,
            json={
                "experiment_id": "0",
                "timestamp_ms": 1000,
                "request_metadata": [{"key": "a", "value": "1"}, {"key": "b", "value": "1"}],
                "tags": [{"key": "t", "value": "1"}],
            },
        )
    )["trace_info"]
    assert (begun["status"], begun["experiment_id"], begun["timestamp_ms"]) == ("IN_PROGRESS", "0", 1000)
    url = f"{V2}/{begun['request_id']}"
    ended = {"timestamp_ms": 3000, "status": "ERROR", "request_metadata": [{"key": "b", "value": "2"}]}
    done = told(server.http.patch(url, json=ended))["trace_info"]
    assert (done["status"], done["execution_time_ms"]) == ("ERROR", 2000)
    assert {item["key"]: item["value"] for item in done["request_metadata"]} == {"a": "1", "b": "2"}
    assert told(server.http.get(f"{url}/info"))["trace_info"] == done
    found = told(server.http.get(V2, params={"experiment_ids": ["0"], "filter": "tags.t = '1'", "max_results": 1}))
    assert found["traces"] == [done]
    assert error(server.http.patch(url, json={"timestamp_ms": 1, "status": "LATE"}))[0] == 400


def test_filters_of_traces_are_correlated(server: Server) -> None:
    for tags in ({"a": "1", "b": "1"}, {"a": "1", "b": "1"}, {"a": "1"}, {"b": "1"}, {}):
        start(server, tags=tags)
    asked = {"experiment_ids": ["0"], "filter_string1": "tags.a = '1'", "filter_string2": "tags.b = '1'"}
    url = f"{V3}/calculate-filter-correlation"
    found = told(server.http.post(url, json=asked))
    counts = [found[name] for name in ("filter1_count", "filter2_count", "joint_count", "total_count")]
    assert counts == [3, 3, 2, 5]
    # log(2/5 / (3/5)^2) / -log(2/5)
    assert found["npmi"] == pytest.approx(0.1053605 / 0.9162907, abs=1e-6)
    assert 0 < found["npmi_smoothed"] < found["npmi"]
    nothing = told(server.http.post(url, json={**asked, "filter_string1": "tags.a = '9'"}))
    assert (nothing["npmi"], nothing["filter1_count"]) == ("NaN", 0)
