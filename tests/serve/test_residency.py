"""Many models in one process: loaded when they are asked for, evicted by memory, taken out and in by name."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import polars as pl
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from tests.serve.conftest import Plane, Served, adding_bundle
from tests.serve.test_process import wait_for

from loopwright.core import LoopwrightError, NotFound, Unavailable
from loopwright.models import Bundle, build_bundle
from loopwright.serve import ProcessSettings, ServedEndpoint, ServingState, Variant, WorkerPlan, Workers
from loopwright.serve.loading import Loading, WaitingRoom
from loopwright.serve.repository import ModelState
from loopwright.serve.residency import Residents
from loopwright.serve.shelf import Usage, to_evict

pytestmark = pytest.mark.slow

MIB = 1 << 20


def heavy_bundle(number: int, mib: int, folder: Path) -> Bundle:
    """A model with weights of so many MiB; it adds its number to `x`."""
    weights = np.random.default_rng(number).random(mib * MIB // 4, dtype=np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMax", ["weights"], ["most"], keepdims=0),
            helper.make_node("Floor", ["most"], ["zero"]),
            helper.make_node("Add", ["x", "number"], ["sum"]),
            helper.make_node("Add", ["sum", "zero"], ["y"]),
        ],
        "heavy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(np.float32(number), "number")],
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return build_bundle(model, pl.DataFrame({"x": [1.0, 2.0]}), folder=folder)


def spec(number: int, digest: str = "") -> ServedEndpoint:
    return ServedEndpoint(f"m{number}", "salt", (Variant("v1", f"model:m{number}@1", digest or f"{number:064x}"),))


def ask(url: str, name: str, x: float = 1.0) -> httpx.Response:
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [x]}]}
    return httpx.post(f"{url}/v2/models/{name}/infer", json=body, timeout=60)


def value_of(answer: httpx.Response) -> float:
    value: float = answer.raise_for_status().json()["outputs"][0]["data"][0]
    return value


def start(served: Served, count: int = 1, memory: int | None = None) -> Workers:
    settings = ProcessSettings(
        state=served.state,
        objects=str(served.root / "objects"),
        journal=served.journal,
        cache=served.root / "cache",
        memory_bytes=memory,
    )
    workers = Workers(WorkerPlan(settings, count))
    assert workers.wait_ready(60)
    return workers


@pytest.mark.fault
def test_fifty_models_are_answered_for_within_a_bound_of_memory(served: Served, tmp_path: Path) -> None:
    digests = [served.put(heavy_bundle(number, 8, tmp_path / f"heavy{number}")) for number in range(50)]
    served.publish(*(spec(number, digest) for number, digest in enumerate(digests)))
    with start(served, memory=80 * MIB) as workers:
        process = psutil.Process(workers.pid)
        begun = process.memory_info().rss
        most = 0
        for turn in range(2):
            for number in range(50):
                assert value_of(ask(workers.url, f"m{number}", float(turn))) == number + turn
                most = max(most, process.memory_info().rss)
        index = httpx.post(f"{workers.url}/v2/repository/index").json()
        ready = [item for item in index if item["state"] == "READY"]
        text = httpx.get(f"{workers.url}/metrics").text
    assert len(index) == 50
    assert 2 <= len(ready) <= 10
    # 400 MiB of weights went through; what was held at once stays near the bound.
    assert most - begun < 120 * MIB, f"{begun / MIB:.0f} to {most / MIB:.0f} MiB"
    assert "loopwright_model_evictions_total 9" in text or "loopwright_model_evictions_total 8" in text


@pytest.mark.fault
def test_many_requests_wait_for_one_load(served: Served, tmp_path: Path) -> None:
    digests = [served.put(heavy_bundle(number, 16, tmp_path / f"heavy{number}")) for number in range(3)]
    served.publish(*(spec(number, digest) for number, digest in enumerate(digests)))
    with start(served, memory=40 * MIB) as workers:
        for number in range(3):
            ask(workers.url, f"m{number}").raise_for_status()
        before = figure(workers, "loopwright_model_loads_total")
        answers: list[float] = []
        callers = [threading.Thread(target=lambda: answers.append(value_of(ask(workers.url, "m0")))) for _ in range(20)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert answers == [1.0] * 20
        assert figure(workers, "loopwright_model_loads_total") == before + 1
        assert figure(workers, "loopwright_requests_waiting_for_models") == 0


@pytest.mark.fault
def test_a_model_beyond_the_bound_is_refused_and_the_others_answer(served: Served, tmp_path: Path) -> None:
    small, large = (served.put(heavy_bundle(mib, mib, tmp_path / f"heavy{mib}")) for mib in (2, 30))
    served.publish(spec(1, small), spec(2, large))
    with start(served, memory=20 * MIB) as workers:
        refused = ask(workers.url, "m2")
        assert refused.status_code == 503
        assert "all together may take 20971520" in refused.json()["error"]
        assert value_of(ask(workers.url, "m1")) == 3.0


@pytest.mark.fault
def test_unload_and_load_reach_every_worker(served: Served, tmp_path: Path) -> None:
    served.publish(spec(1, served.put(adding_bundle(1.0, tmp_path / "plus1"))))
    with start(served, count=3) as workers:
        assert httpx.post(f"{workers.url}/v2/repository/models/m1/unload").status_code == 200
        wait_for(lambda: statuses(workers) == {503})
        assert httpx.post(f"{workers.url}/v2/repository/models/m1/load").status_code == 200
        wait_for(lambda: statuses(workers) == {200})
        assert httpx.post(f"{workers.url}/v2/repository/models/none/load").status_code == 404


def statuses(workers: Workers) -> set[int]:
    """What new connections, which go to all workers in turn, are answered with."""
    return {ask(workers.url, "m1").status_code for _ in range(12)}


def figure(workers: Workers, name: str) -> float:
    lines = httpx.get(f"{workers.url}/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


class World:
    """Residents on a plane, with bundles from a folder."""

    def __init__(self, folder: Path, budget: int | None = None) -> None:
        self.folder, self.plane = folder, Plane(folder)
        self.fetched: list[str] = []
        self.missing: set[str] = set()
        self.residents = Residents(self.plane.plane, self.plane.log, self._fetch, budget_bytes=budget)

    def _fetch(self, digest: str) -> Bundle:
        self.fetched.append(digest)
        if digest in self.missing:
            raise NotFound(f"there is no bundle {digest}")
        folder = self.folder / digest
        return Bundle(folder) if folder.exists() else heavy_bundle(int(digest, 16), 8, folder)

    async def reach(self, name: str) -> Any:
        """The endpoint, waited for as a front does."""
        while True:
            try:
                return self.plane.plane.endpoint(name)
            except Loading as loading:
                await loading.wait()


def on_world(tmp_path: Path, work: Callable[[World], Any], budget: int | None = None) -> Any:
    async def main() -> Any:
        world = World(tmp_path, budget)
        try:
            return await work(world)
        finally:
            world.plane.plane.close()

    return asyncio.run(main())


def test_who_was_not_used_for_longest_leaves(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        await world.residents.apply(ServingState(1, tuple(spec(number) for number in (1, 2, 3))))
        for name in ("m1", "m2"):
            await world.reach(name)
        world.plane.metrics.predictions["m1", "v1", "1", "ok"] += 1
        await world.reach("m3")
        assert sorted(world.plane.plane.endpoints) == ["m1", "m3"]
        states = {entry.name: entry.state for entry in world.residents.index()}
        assert states == {"m1": ModelState.READY, "m2": ModelState.UNAVAILABLE, "m3": ModelState.READY}

    on_world(tmp_path, work, budget=22 * MIB)


def test_a_failed_load_is_told_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(world: World) -> None:
        monkeypatch.setattr("loopwright.serve.residency._RETRY_S", 0.05)
        world.missing.add(f"{1:064x}")
        await world.residents.apply(ServingState(1, (spec(2),)))
        failed = await world.residents.apply(ServingState(2, (spec(1), spec(2))))
        assert set(failed) == {"m1"}
        assert world.plane.metrics.revision == 1
        for _ in range(2):
            with pytest.raises(LoopwrightError, match="there is no bundle"):
                await world.reach("m1")
        with pytest.raises(LoopwrightError, match="there is no bundle"):
            await world.residents.load("m1")
        assert world.plane.plane.endpoint("m2").spec.name == "m2"
        world.missing.clear()
        await asyncio.sleep(0.06)
        assert (await world.reach("m1")).spec.name == "m1"

    on_world(tmp_path, work)


def test_what_was_unloaded_stays_out_until_it_is_loaded(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        await world.residents.apply(ServingState(1, (spec(1), spec(2))))
        await world.residents.unload("m1")
        with pytest.raises(Unavailable, match="was unloaded"):
            await world.reach("m1")
        await world.residents.apply(ServingState(2, (spec(1), spec(2))))
        with pytest.raises(Unavailable, match="was unloaded"):
            await world.reach("m1")
        await world.residents.load("m1")
        assert (await world.reach("m1")).spec.name == "m1"
        await world.residents.apply(ServingState(3, (spec(2),)))
        with pytest.raises(NotFound, match="served: m2"):
            await world.reach("m1")

    on_world(tmp_path, work)


def test_a_model_of_two_endpoints_is_in_memory_once(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        other = ServedEndpoint("other", "salt", spec(1).variants)
        await world.residents.apply(ServingState(1, (spec(1), other)))
        figures = {name: value for name, _, _, value in world.residents.figures()}
        assert figures["models_loaded"] == 1
        predictors = [world.plane.plane.endpoint(name).live[0].predictor for name in ("m1", "other")]
        assert predictors[0] is predictors[1]

    on_world(tmp_path, work)


def test_who_waits_is_bounded_in_number_and_time() -> None:
    async def work() -> None:
        room = WaitingRoom(most=2, patience_s=0.05)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        loading = Loading("m", done, room)
        refused: list[LoopwrightError] = []
        for _ in range(3):
            loading.then(lambda: pytest.fail("the load never ended"), refused.append)
        assert [error.message for error in refused] == ["2 requests wait for models already"]
        await asyncio.sleep(0.1)
        assert len(refused) == 3
        assert room.count == 0
        done.set_result(None)
        await asyncio.sleep(0)
        called: list[float] = []
        loading.then(lambda: called.append(time.monotonic()), refused.append)
        await asyncio.sleep(0)
        assert len(called) == 1
        assert room.count == 0

    asyncio.run(work())


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 100)), st.integers(-10, 400))
def test_as_many_leave_as_must_and_no_more(sizes: dict[str, int], room: int) -> None:
    order = sorted(sizes)
    leaving = to_evict(sizes, order, room)
    assert leaving == order[: len(leaving)]
    left = sum(size for name, size in sizes.items() if name not in leaving)
    assert left <= max(room, 0) or len(leaving) == len(order)
    if leaving:
        assert left + sizes[leaving[-1]] > room


def test_use_is_seen_from_counts() -> None:
    usage = Usage()
    usage.look({"a": 1, "b": 1})
    time.sleep(0.002)
    usage.look({"a": 2, "b": 1})
    assert usage.oldest_first(["a", "b", "never"]) == ["never", "b", "a"]
    time.sleep(0.002)
    usage.touch("b")
    assert usage.oldest_first(["a", "b"]) == ["a", "b"]
