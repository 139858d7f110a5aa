"""Traces as a collector gets them: a real process, a real exporter, OTLP over HTTP."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tests.serve.conftest import Served, adding_bundle, failing_bundle
from tests.serve.test_process import endpoint

from loopwright.serve import InferenceProcess, ProcessSettings, Variant

proto = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
pytestmark = pytest.mark.fault
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector:
    """Takes spans."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        spans = self.spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    import gzip

                    body = gzip.decompress(body)
                asked = proto.ExportTraceServiceRequest.FromString(body)
                spans.extend(s for r in asked.resource_spans for scope in r.scope_spans for s in scope.spans)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.server.shutdown()
    made.server.server_close()


def launch(served: Served, tmp_path: Path, otlp: str, **more: Any) -> InferenceProcess:
    served.publish(
        endpoint(Variant("champion", "model:m@1", served.put(adding_bundle(1.0, tmp_path / "plus1")))),
        endpoint(Variant("champion", "model:f@1", served.put(failing_bundle(tmp_path / "failing"))), name="f"),
    )
    settings = ProcessSettings(
        state=served.state, objects=str(served.root / "objects"), journal=served.journal, otlp=otlp, **more
    )
    served.processes.append(InferenceProcess.launch(settings))
    return served.processes[-1]


def body(value: float, datatype: str = "FP32") -> dict[str, Any]:
    return {"inputs": [{"name": "x", "datatype": datatype, "shape": [1], "data": [value]}]}


def test_a_request_and_its_model_are_spans_of_the_callers_trace(
    served: Served, tmp_path: Path, collector: Collector
) -> None:
    process = launch(served, tmp_path, collector.url)
    traced = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    assert httpx.post(f"{process.url}/v2/models/e/infer", json=body(1.0), headers=traced).status_code == 200
    assert httpx.get(f"{process.url}/v2/health/live").status_code == 200
    assert httpx.post(f"{process.url}/v2/models/f/infer", json=body(7, "INT64")).status_code == 500
    assert process.stop() == 0
    by_name = {span.name: span for span in collector.spans if span.trace_id.hex() == TRACE}
    request, run = by_name["POST e"], by_name["predict"]
    assert request.parent_span_id.hex() == PARENT
    assert run.parent_span_id == request.span_id
    assert request.start_time_unix_nano <= run.start_time_unix_nano <= run.end_time_unix_nano
    assert run.end_time_unix_nano <= request.end_time_unix_nano
    told = {item.key: item.value for item in run.attributes}
    assert told["loopwright.model"].string_value == "model:m@1"
    assert told["loopwright.batch_rows"].int_value == 1
    failed = next(span for span in collector.spans if span.name == "POST f")
    assert failed.status.code == 2
    assert len({span.trace_id for span in collector.spans}) == 3


def test_a_collector_that_is_away_costs_no_answer(served: Served, tmp_path: Path) -> None:
    process = launch(served, tmp_path, "http://127.0.0.1:1")
    with httpx.Client() as client:
        for _ in range(200):
            assert client.post(f"{process.url}/v2/models/e/infer", json=body(1.0)).status_code == 200
    assert process.stop() == 0


def test_calls_of_grpc_are_traced_logged_and_counted_like_requests(
    served: Served, tmp_path: Path, collector: Collector
) -> None:
    grpc, triton = pytest.importorskip("grpc"), pytest.importorskip("tritonclient.grpc")
    log = tmp_path / "access.log"
    process = launch(served, tmp_path, collector.url, grpc_port=0, access_log=str(log))
    traced = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    tensor = triton.InferInput("x", [1], "FP32").set_data_from_numpy(np.ones(1, dtype=np.float32))
    wrong = triton.InferInput("x", [1], "INT64").set_data_from_numpy(np.full(1, 7))
    with triton.InferenceServerClient(process.grpc) as client:
        assert client.infer("e", [tensor], headers=traced).as_numpy("value").ravel().tolist() == [2.0]
        with pytest.raises(triton.InferenceServerException, match="INTERNAL"):
            client.infer("f", [wrong], headers=traced)
        with pytest.raises(triton.InferenceServerException, match="NOT_FOUND"):
            client.infer("none", [tensor])
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        client.start_stream(lambda result, error: answers.put(error), headers=traced)
        for _ in range(3):
            client.async_stream_infer("e", [tensor])
        assert [answers.get(timeout=20) for _ in range(3)] == [None] * 3
        client.stop_stream()
    figures = httpx.get(f"{process.url}/metrics").text
    assert process.stop() == 0
    assert 'loopwright_requests_total{endpoint="e",status="200"} 4' in figures
    assert 'loopwright_requests_total{endpoint="f",status="500"} 1' in figures
    assert 'loopwright_requests_total{endpoint="",status="404"} 1' in figures
    spans = [span for span in collector.spans if span.trace_id.hex() == TRACE]
    calls = [span for span in spans if span.name.startswith("inference.GRPCInferenceService/")]
    told = [{item.key: item.value for item in span.attributes} for span in calls]
    assert [item["rpc.method"].string_value for item in told].count("ModelStreamInfer") == 3
    assert {item["rpc.system"].string_value for item in told} == {"grpc"}
    assert {
        item["rpc.grpc.status_code"].int_value: span.status.code for item, span in zip(told, calls, strict=True)
    } == {
        grpc.StatusCode.OK.value[0]: 0,
        grpc.StatusCode.INTERNAL.value[0]: 2,
    }
    assert {span.parent_span_id.hex() for span in calls} == {PARENT}
    runs = {span.parent_span_id for span in spans if span.name == "predict"}
    assert runs == {span.span_id for span in calls}
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    found = [(line["path"].rpartition("/")[2], line["status"], line.get("grpc")) for line in lines]
    assert found == [
        ("ModelInfer", 200, "OK"),
        ("ModelInfer", 500, "INTERNAL"),
        ("ModelInfer", 404, "NOT_FOUND"),
        *[("ModelStreamInfer", 200, "OK")] * 3,
        ("metrics", 200, None),
    ]
    assert [line.get("trace", "") for line in lines[:3]] == [TRACE, TRACE, ""]
    assert all(line["bytes_in"] > 0 and 0 < line["took_ms"] < 10_000 and line["client"] for line in lines[:6])
