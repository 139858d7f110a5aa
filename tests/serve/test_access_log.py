"""The access log: a line per response, whole, from all workers."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.serve.conftest import Served, adding_bundle
from tests.serve.test_process import endpoint

from loopwright.core import Unavailable
from loopwright.serve import ProcessSettings, Variant, WorkerPlan, Workers
from loopwright.serve.access_log import AccessLog, trace_of

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.fault
def test_each_response_of_each_worker_is_one_line(served: Served, tmp_path: Path) -> None:
    served.publish(endpoint(Variant("champion", "model:m@1", served.put(adding_bundle(1.0, tmp_path / "plus1")))))
    file = tmp_path / "logs" / "access.log"
    settings = ProcessSettings(
        state=served.state, objects=str(served.root / "objects"), journal=served.journal, access_log=str(file)
    )
    with Workers(WorkerPlan(settings, 2)) as workers:
        assert workers.wait_ready(60)
        callers = [threading.Thread(target=ask, args=(workers.url,)) for _ in range(6)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        pids = set(workers.pids)
    lines: list[dict[str, Any]] = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(lines) == 6 * 3
    asked = [line for line in lines if line.get("endpoint") == "e"]
    assert len(asked) == 6
    assert {line["trace"] for line in asked} == {TRACE}
    assert {(line["method"], line["status"]) for line in lines} == {("POST", 200), ("GET", 200), ("POST", 404)}
    assert all(line["client"] == "127.0.0.1" and 0 < line["took_ms"] < 10_000 for line in lines)
    assert all(line["bytes_in"] > 0 and line["bytes_out"] > 0 for line in asked)
    assert {line["pid"] for line in lines} <= pids
    assert "ann" not in file.read_text()  # what stands in a query is in no log


def ask(url: str) -> None:
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1.0]}]}
    with httpx.Client(headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}) as client:
        assert client.post(f"{url}/v2/models/e/infer?email=ann", json=body).status_code == 200
        assert client.get(f"{url}/v2/health/live").status_code == 200
        assert client.post(f"{url}/v2/models/none/infer", json=body).status_code == 404


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(Unavailable, match="cannot be written"):
        AccessLog(str(tmp_path / "folder"))


@pytest.mark.parametrize(
    "given, trace",
    [
        (f"00-{TRACE}-00f067aa0ba902b7-01".encode(), TRACE),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01".encode(), ""),
        (f"00-{'g' * 32}-00f067aa0ba902b7-01".encode(), ""),
        (b"", ""),
        (b"00-12-34-01", ""),
    ],
)
def test_the_trace_of_a_request_is_read_as_w3c_says(given: bytes, trace: str) -> None:
    assert trace_of(given) == trace
