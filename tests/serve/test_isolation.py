"""A model that hangs or crashes: the others go on, and it is told of in the log, in figures and by readiness."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import onnx
import polars as pl
import pytest
from onnx import TensorProto, helper
from tests.serve.conftest import Served, adding_bundle
from tests.serve.fragile import Fragile
from tests.serve.test_process import endpoint, wait_for
from tests.serve.test_workers import figure

from loopwright.models import Bundle, build_bundle
from loopwright.serve import ProcessSettings, Variant, WorkerPlan, Workers
from loopwright.serve.workers.running import Blame, name_of, write_names

pytestmark = pytest.mark.fault


def looping_bundle(folder: Path) -> Bundle:
    """A model that goes round a loop `x` times: with a large `x` it never answers."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["still"]),
            helper.make_node("Add", ["sum", "one"], ["next"]),
        ],
        "round",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", TensorProto.INT64, [None]),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.INT64, [None]),
        ],
        [helper.make_tensor("one", TensorProto.INT64, [1], [1])],
    )
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMax", ["x"], ["turns"], keepdims=0),
            helper.make_node("Sub", ["x", "x"], ["zero"]),
            helper.make_node("Loop", ["turns", "", "zero"], ["y"], body=body),
        ],
        "looping",
        [helper.make_tensor_value_info("x", TensorProto.INT64, [None])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, [None])],
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return build_bundle(model, pl.DataFrame({"x": [1, 2]}), folder=folder)


def ask(url: str, name: str, x: float, datatype: str, timeout: float = 20) -> httpx.Response:
    body: dict[str, Any] = {"inputs": [{"name": "x", "datatype": datatype, "shape": [1], "data": [x]}]}
    return httpx.post(f"{url}/v2/models/{name}/infer", json=body, timeout=timeout)


def test_a_model_that_hangs_its_worker_is_taken_out_and_the_others_go_on(served: Served, tmp_path: Path) -> None:
    good, bad = served.put(adding_bundle(1.0, tmp_path / "plus1")), served.put(looping_bundle(tmp_path / "looping"))
    served.publish(
        endpoint(Variant("v1", "model:good@1", good), name="good"),
        endpoint(Variant("v1", "model:bad@1", bad), name="bad"),
    )
    told: list[str] = []
    settings = ProcessSettings(
        state=served.state, objects=str(served.root / "objects"), journal=served.journal, cache=served.root / "cache"
    )
    with Workers(WorkerPlan(settings, 2, hang_s=0.7), report=told.append) as workers:
        assert workers.wait_ready(60)
        assert ask(workers.url, "bad", 3, "INT64").json()["outputs"][0]["data"] == [3]
        for _ in range(3):
            before = workers.restarts
            with pytest.raises(httpx.HTTPError):
                ask(workers.url, "bad", 1 << 60, "INT64")
            wait_for(lambda before=before: workers.restarts > before and len(workers.pids) == 2)
            assert ask(workers.url, "good", 1, "FP32").status_code == 200
        assert sum("while it answered for endpoint 'bad'" in line for line in told) == 3
        assert any("taken out now" in line for line in told)
        wait_for(lambda: ask(workers.url, "bad", 3, "INT64").status_code == 503)
        index = httpx.post(f"{workers.url}/v2/repository/index").json()
        assert {item["name"]: item["state"] for item in index} == {"bad": "UNAVAILABLE", "good": "READY"}
        assert figure(workers, "loopwright_worker_restarts_total") == 3
        assert ask(workers.url, "good", 1, "FP32").status_code == 200
        assert httpx.post(f"{workers.url}/v2/repository/models/bad/load").status_code == 200
        wait_for(lambda: ask(workers.url, "bad", 3, "INT64").status_code == 200)


def test_a_python_model_that_crashes_is_replaced_and_told_of(served: Served, tmp_path: Path) -> None:
    made = build_bundle(Fragile, pl.DataFrame({"x": [float(n % 50) for n in range(600)]}), folder=tmp_path / "python")
    good = served.put(adding_bundle(1.0, tmp_path / "plus1"))
    served.publish(
        endpoint(Variant("v1", "model:python@1", served.put(made)), name="python"),
        endpoint(Variant("v1", "model:good@1", good), name="good"),
    )
    with (tmp_path / "log").open("wb") as log:
        settings = ProcessSettings(
            state=served.state, objects=str(served.root / "objects"), journal=served.journal, cache=served.root / "c"
        )
        with Workers(WorkerPlan(settings), stderr=log) as workers:
            assert workers.wait_ready(60)
            assert ask(workers.url, "python", 1, "FP64").json()["outputs"][0]["data"] == [2.0]
            answers: list[int] = []
            caller = threading.Thread(
                target=lambda: answers.append(ask(workers.url, "python", 1000, "FP64").status_code)
            )
            caller.start()
            assert ask(workers.url, "good", 1, "FP32").status_code == 200
            caller.join()
            assert answers in ([500], [503])
            pid = workers.pid
            wait_for(lambda: ask(workers.url, "python", 1, "FP64").status_code == 200)
            assert workers.pid == pid
            assert figure(workers, "loopwright_model_process_restarts_total") == 1
            assert figure(workers, "loopwright_model_process_up") == 1
            assert httpx.get(f"{workers.url}/v2/models/python/ready").status_code == 200
            wait_for(lambda: "the process of model:python@1" in (tmp_path / "log").read_text(), 5)


def test_only_repeated_ends_within_a_while_are_blamed(tmp_path: Path) -> None:
    blame = Blame(tmp_path)
    assert [blame.note("a", at) for at in (0.0, 100.0, 200.0, 210.0, 219.0)] == [False, False, False, True, False]
    assert not blame.note("b", 220.0)
    write_names(tmp_path, 5, ["x", "y"])
    assert [name_of(tmp_path, 5, number) for number in (-1, 0, 1, 2, 3)] == ["", "", "x", "y", ""]
    assert name_of(tmp_path, 6, 1) == ""


def test_a_crash_outside_a_model_blames_nobody(served: Served, tmp_path: Path) -> None:
    served.publish(endpoint(Variant("v1", "model:m@1", served.put(adding_bundle(1.0, tmp_path / "plus1")))))
    told: list[str] = []
    settings = ProcessSettings(state=served.state, objects=str(served.root / "objects"), journal=served.journal)
    with Workers(WorkerPlan(settings), report=told.append, stderr=subprocess.DEVNULL) as workers:
        assert workers.wait_ready(60)
        assert ask(workers.url, "e", 1, "FP32").status_code == 200
        time.sleep(0.1)
        os.kill(workers.pid, signal.SIGKILL)
        wait_for(lambda: workers.restarts == 1)
    assert "while it answered" not in told[0]
