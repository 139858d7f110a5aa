"""Several workers behind one address: balanced, watched, replaced; one answer for all of them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import pytest
from google.protobuf import json_format
from tests.serve.conftest import Served, adding_bundle
from tests.serve.test_process import endpoint, is_running, logged, wait_for

from loopwright.core import Invalid, Unavailable
from loopwright.serve import InferenceClient, ProcessSettings, Variant, WorkerPlan, Workers, bytes_of, listen
from loopwright.serve.grpc.protos import messages
from loopwright.serve.workers.supervisor import cause_of, pause_before

pytestmark = pytest.mark.fault
Start = Callable[..., Workers]


@pytest.fixture
def start(served: Served, tmp_path: Path) -> Iterator[Start]:
    """Starts workers that serve models which add 1, and ends them."""
    served.publish(endpoint(Variant("champion", "model:m@1", served.put(adding_bundle(1.0, tmp_path / "plus1")))))
    made: list[Workers] = []

    def run(count: int = 2, **more: Any) -> Workers:
        settings = ProcessSettings(
            state=served.state,
            objects=str(served.root / "objects"),
            journal=served.journal,
            cache=served.root / "cache",
            **more.pop("settings", {}),
        )
        made.append(Workers(WorkerPlan(settings, count, **more), report=told.append))
        assert made[-1].wait_ready(60)
        return made[-1]

    told: list[str] = []
    run.told = told  # type: ignore[attr-defined]
    yield run
    for workers in made:
        workers.stop(5)


def figure(workers: Workers, name: str) -> float:
    """The sum of a metric's samples."""
    text = httpx.get(f"{workers.url}/metrics").text
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if re.match(rf"{name}(\{{|\s)", line))


def ask_often(url: str, acknowledged: list[str], stop: threading.Event, losses: list[str]) -> None:
    """A caller that connects again when its connection is lost."""
    while not stop.is_set():
        try:
            with InferenceClient(url) as client:
                while not stop.is_set():
                    got = client.infer_many("e", {"x": [float(n) for n in range(50)]})
                    acknowledged.extend(identifier for identifier in got.prediction_ids if identifier)
        except Unavailable as error:
            losses.append(str(error))


def test_connections_are_shared_out_evenly(start: Start) -> None:
    workers = start(2)
    clients = [httpx.Client() for _ in range(32)]
    for client in clients:
        client.get(f"{workers.url}/v2/health/live")
    wait_for(lambda: sum(workers.board.read(place).connections for place in range(2)) == 32)
    held = [workers.board.read(place).connections for place in range(2)]
    assert sum(held) == 32
    assert abs(held[0] - held[1]) <= 4
    for client in clients:
        client.close()
    wait_for(lambda: workers.board.read(0).connections + workers.board.read(1).connections == 0)


def test_one_scrape_tells_the_sum_of_all_workers_at_once(start: Start) -> None:
    workers = start(2)
    clients = [InferenceClient(workers.url) for _ in range(6)]
    for client in clients:
        client.infer("e", {"x": [1.0, 2.0, 3.0]})
    for _ in range(4):
        assert figure(workers, "loopwright_predictions_total") == 18
        assert figure(workers, "loopwright_request_seconds_count") == 6
    assert figure(workers, "loopwright_worker_up") == 2
    assert figure(workers, "loopwright_serving_revision") == 1
    for client in clients:
        client.close()


def test_statistics_tell_the_sum_of_all_workers_whoever_is_asked_and_whoever_was_killed(start: Start) -> None:
    workers = start(2, settings={"grpc_port": 0})
    clients = [InferenceClient(workers.url) for _ in range(6)]
    for client in clients:
        client.infer("e", {"x": [1.0, 2.0, 3.0]})

    def told() -> set[tuple[int, int, int, int]]:
        """What each of several connections is told: rows, runs, requests, runs of three rows."""
        found = [httpx.get(f"{workers.url}/v2/models/e/versions/1/stats").json() for _ in range(6)]
        with grpc.insecure_channel(workers.grpc) as channel:
            ask = channel.unary_unary("/inference.GRPCInferenceService/ModelStatistics")
            answer = messages("inference.proto")["ModelStatisticsResponse"].FromString(ask(b"", timeout=20))
            found.append(json_format.MessageToDict(answer, preserving_proto_field_name=True))
        stats = [one["model_stats"][0] for one in found]
        return {
            (
                int(one["inference_count"]),
                int(one["execution_count"]),
                int(one["inference_stats"]["success"]["count"]),
                int(one["batch_stats"][0]["compute_infer"]["count"]),
            )
            for one in stats
        }

    assert told() == {(18, 6, 6, 6)}
    victim = workers.pids[0]
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: victim not in workers.pids and len(workers.pids) == 2 and figure_up(workers) == 2)
    assert told() == {(18, 6, 6, 6)}
    for client in clients:
        client.close()


def test_a_killed_worker_returns_and_nothing_logged_or_counted_is_lost(start: Start, served: Served) -> None:
    workers = start(2)
    acknowledged: list[list[str]] = [[] for _ in range(4)]
    stop, losses = threading.Event(), []
    callers = [threading.Thread(target=ask_often, args=(workers.url, mine, stop, losses)) for mine in acknowledged]
    for caller in callers:
        caller.start()
    wait_for(lambda: all(len(mine) > 200 for mine in acknowledged))
    victim, other = workers.pids
    counted = figure(workers, "loopwright_predictions_total")
    os.kill(victim, signal.SIGKILL)
    before = [len(mine) for mine in acknowledged]
    wait_for(lambda: all(len(mine) > count + 200 for mine, count in zip(acknowledged, before, strict=True)))
    assert is_running(other)
    wait_for(lambda: len(workers.pids) == 2 and victim not in workers.pids and figure_up(workers) == 2)
    assert figure(workers, "loopwright_predictions_total") >= counted
    assert figure(workers, "loopwright_worker_restarts_total") == 1
    stop.set()
    for caller in callers:
        caller.join()
    assert len(losses) <= 4  # a caller notices the kill once, if it was connected to that worker
    workers.stop()
    ids = [item.id for item in logged(served.journal)]
    assert {identifier for mine in acknowledged for identifier in mine} <= set(ids)
    assert len(set(ids)) == len(ids)
    assert any("ended by SIGKILL" in line for line in start.told)  # type: ignore[attr-defined]


def figure_up(workers: Workers) -> float:
    try:
        return figure(workers, "loopwright_worker_up")
    except httpx.HTTPError:
        return 0


def test_workers_are_replaced_one_by_one_without_a_failed_request(start: Start) -> None:
    workers = start(2)
    before = set(workers.pids)
    acknowledged: list[str] = []
    stop, losses = threading.Event(), []
    caller = threading.Thread(target=ask_by_turns, args=(workers.url, acknowledged, stop, losses))
    caller.start()
    workers.replace()
    stop.set()
    caller.join()
    assert losses == []
    assert len(acknowledged) > 10
    assert before.isdisjoint(workers.pids)
    assert len(workers.pids) == 2
    assert workers.restarts == 0
    assert figure(workers, "loopwright_predictions_total") == len(acknowledged)


def ask_by_turns(url: str, acknowledged: list[str], stop: threading.Event, losses: list[str]) -> None:
    """A caller with a new connection for each request."""
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1.0]}]}
    while not stop.is_set():
        try:
            answer = httpx.post(f"{url}/v2/models/e/infer", json=body)
        except httpx.HTTPError as error:
            losses.append(repr(error))
            continue
        acknowledged.extend(answer.json()["parameters"]["prediction_ids"])


def test_a_worker_whose_loop_hangs_is_killed_and_told_of(start: Start) -> None:
    workers = start(2, hang_s=1.0)
    victim = workers.pids[0]
    os.kill(victim, signal.SIGSTOP)
    wait_for(lambda: victim not in workers.pids and len(workers.pids) == 2)
    assert any("did nothing for" in line for line in start.told)  # type: ignore[attr-defined]


def test_stopped_workers_leave_nothing_behind(start: Start) -> None:
    workers = start(3)
    pids, folder = workers.pids, workers.folder
    assert len(pids) == 3
    assert workers.stop() == 0
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert not folder.exists()
    assert workers.exit_code == 0


def test_workers_that_cannot_start_say_so(served: Served) -> None:
    settings = ProcessSettings(state=served.state, objects="nowhere://x", journal=served.journal)
    workers = Workers(WorkerPlan(settings, 2), stderr=subprocess.DEVNULL)
    with pytest.raises(Unavailable, match="did not become ready"):
        workers.wait_ready(30)
    assert workers.pids == [] or not any(is_running(pid) for pid in workers.pids)


def test_a_taken_port_is_said(served: Served) -> None:
    held = listen("127.0.0.1", 0)
    port = held.getsockname()[1]
    with pytest.raises(Unavailable, match=f"port {port} on 127.0.0.1 is in use"):
        Workers(WorkerPlan(ProcessSettings(state=served.state, port=port)))
    held.close()


@pytest.mark.parametrize("count", [0, -1, 1000])
def test_a_count_without_sense_is_refused(served: Served, count: int) -> None:
    with pytest.raises(Invalid, match="cannot be started"):
        Workers(WorkerPlan(ProcessSettings(state=served.state), count))


def test_pauses_grow_and_are_bounded() -> None:
    pauses = [pause_before(start) for start in range(12)]
    assert pauses[:4] == [0.0, 0.1, 0.2, 0.4]
    assert pauses == sorted(pauses)
    assert max(pauses) == 15.0
    assert pause_before(10_000) == 15.0


def test_causes_are_named() -> None:
    assert cause_of(-9) == "SIGKILL"
    assert cause_of(-11) == "SIGSEGV"
    assert cause_of(3) == "exit code 3"
    assert cause_of(-63) in ("signal 63", "SIGRTMAX-1")


@pytest.mark.parametrize(
    "text, size",
    [("", None), ("512M", 512 << 20), ("1.5GiB", 3 << 29), ("2000", 2000), ("1 kb", 1024), ("1T", 1 << 40)],
)
def test_sizes_are_read_as_people_write_them(text: str, size: int | None) -> None:
    assert bytes_of(text) == size


@pytest.mark.parametrize("text", ["lots", "-1M", "0", "1X", "1.2.3G"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="is no size"):
        bytes_of(text)
