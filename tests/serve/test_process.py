"""The inference process as a process: started, swapped, killed, orphaned."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tests.serve.conftest import Served, adding_bundle

from loopwright.core import Unavailable
from loopwright.models import Bundle
from loopwright.serve import InferenceClient, InferenceProcess, ServedEndpoint, Variant, read_predictions

pytestmark = pytest.mark.fault


def endpoint(*variants: Variant, name: str = "e") -> ServedEndpoint:
    return ServedEndpoint(name, "salt", variants)


def wait_for(condition: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def revision_of(process: InferenceProcess) -> int:
    return int(httpx.get(f"{process.url}/v2/health/ready").json()["revision"])


def logged(folder: Path) -> list[Any]:
    return read_predictions(folder, limit=10**7)[0]


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def plus(served: Served, tmp_path: Path) -> dict[int, str]:
    """Digests of models that add 1, 2 and 3."""
    return {n: served.put(adding_bundle(float(n), tmp_path / f"plus{n}")) for n in (1, 2, 3)}


def test_the_process_answers_as_the_original_model_does(
    served: Served, bundle: Bundle, trips_columns: dict[str, list[Any]], expected: np.ndarray[Any, Any]
) -> None:
    served.publish(endpoint(Variant("champion", "model:trips@1", served.put(bundle)), name="trips"))
    process = served.start()
    with InferenceClient(process.url) as client:
        one_by_one = client.infer_many("trips", trips_columns)
        at_once = client.infer("trips", trips_columns)
    np.testing.assert_allclose(one_by_one.outputs["probability"], expected, atol=1e-5)
    assert at_once.outputs["probability"] == one_by_one.outputs["probability"]
    assert len({item.id for item in logged(served.journal)}) == 2 * len(expected)


def test_kill_9_under_load_loses_no_acknowledged_prediction(served: Served, plus: dict[int, str]) -> None:
    served.publish(endpoint(Variant("champion", "model:m@1", plus[1])))
    acknowledged: list[str] = []

    def ask(url: str) -> None:
        with InferenceClient(url) as client:
            try:
                while True:
                    got = client.infer_many("e", {"x": [float(n) for n in range(300)]})
                    acknowledged.extend(got.prediction_ids)
            except Unavailable:
                return

    for turn in range(4):
        process = served.start()
        callers = [threading.Thread(target=ask, args=(process.url,)) for _ in range(2)]
        for caller in callers:
            caller.start()
        before = len(acknowledged)
        wait_for(lambda before=before: len(acknowledged) > before)
        time.sleep(0.05 * turn)
        process.kill()
        for caller in callers:
            caller.join()
    ids = [item.id for item in logged(served.journal)]
    assert len(acknowledged) > 1000
    assert set(acknowledged) <= set(ids)
    assert len(set(ids)) == len(ids)


def test_a_swap_under_load_fails_no_request_and_never_mixes_versions(served: Served, plus: dict[int, str]) -> None:
    served.publish(endpoint(Variant("champion", "model:m@1", plus[1])))
    process = served.start()
    stop, errors, seen = threading.Event(), [], []

    def ask() -> None:
        with InferenceClient(process.url) as client:
            while not stop.is_set():
                got = client.infer_many("e", {"x": [10.0] * 200})
                errors.extend(got.errors.values())
                seen.extend(zip(got.models, got.outputs["value"], strict=True))

    caller = threading.Thread(target=ask)
    caller.start()
    for turn in range(6):
        version = turn % 3 + 1
        revision = served.publish(endpoint(Variant("champion", f"model:m@{version}", plus[version])))
        wait_for(lambda revision=revision: revision_of(process) == revision)
    stop.set()
    caller.join()
    assert errors == []
    assert set(seen) == {(f"model:m@{n}", 10.0 + n) for n in (1, 2, 3)}


def test_growing_traffic_moves_keys_one_way(served: Served, plus: dict[int, str]) -> None:
    keys = [str(number) for number in range(500)]
    before: set[str] = set()
    process = served.start()
    for share in (0.05, 0.25, 1.0):
        old, new = Variant("old", "model:m@1", plus[1], 1 - share), Variant("new", "model:m@2", plus[2], share)
        revision = served.publish(endpoint(old, new))
        wait_for(lambda revision=revision: revision_of(process) == revision)
        with InferenceClient(process.url) as client:
            got = client.infer_many("e", {"x": [0.0] * 500}, keys=keys)
        moved = {key for key, name in zip(keys, got.variants, strict=True) if name == "new"}
        assert before <= moved
        assert abs(len(moved) / 500 - share) < 0.07
        before = moved


def test_a_bundle_that_cannot_be_loaded_leaves_its_endpoint_as_it_was(served: Served, plus: dict[int, str]) -> None:
    served.publish(endpoint(Variant("champion", "model:m@1", plus[1])))
    process = served.start(stderr=subprocess.DEVNULL)
    other = endpoint(Variant("champion", "model:m@3", plus[3]), name="other")
    revision = served.publish(endpoint(Variant("champion", "model:m@2", "f" * 64)), other)
    with InferenceClient(process.url) as client:
        wait_for(lambda: httpx.get(f"{process.url}/v2/models/other/ready").status_code == 200)
        assert client.infer("other", {"x": [0.0]}).outputs["value"] == [3.0]
        assert client.infer("e", {"x": [0.0]}).outputs["value"] == [1.0]
        assert revision_of(process) < revision
        served.publish(endpoint(Variant("champion", "model:m@2", plus[2])))
        wait_for(lambda: client.infer("e", {"x": [0.0]}).outputs["value"] == [2.0])


def test_a_damaged_state_changes_nothing(served: Served, plus: dict[int, str]) -> None:
    served.publish(endpoint(Variant("champion", "model:m@1", plus[1])))
    process = served.start(stderr=subprocess.DEVNULL)
    served.state.write_text('{"revision": 9, "endpoints": [{')
    wait_for(lambda: "\nloopwright_state_load_failures_total 0" not in httpx.get(f"{process.url}/metrics").text)
    with InferenceClient(process.url) as client:
        assert client.infer("e", {"x": [0.0]}).outputs["value"] == [1.0]
    assert revision_of(process) == 1


def test_a_process_without_a_state_waits_for_one(served: Served, plus: dict[int, str]) -> None:
    process = served.start()
    assert revision_of(process) == 0
    served.publish(endpoint(Variant("champion", "model:m@1", plus[1])))
    wait_for(lambda: revision_of(process) == 1)


def test_sigterm_answers_what_is_under_way_and_ends_cleanly(served: Served, plus: dict[int, str]) -> None:
    served.publish(endpoint(Variant("champion", "model:m@1", plus[1])))
    process = served.start()
    acknowledged: list[str] = []

    def ask() -> None:
        with InferenceClient(process.url) as client:
            try:
                while True:
                    acknowledged.extend(client.infer_many("e", {"x": [0.0] * 100}).prediction_ids)
            except Unavailable:
                return

    caller = threading.Thread(target=ask)
    caller.start()
    wait_for(lambda: len(acknowledged) > 500)
    assert process.stop() == 0
    caller.join()
    assert set(acknowledged) <= {item.id for item in logged(served.journal)}


def test_the_process_ends_when_its_parent_is_killed(served: Served, plus: dict[int, str]) -> None:
    served.publish(endpoint(Variant("champion", "model:m@1", plus[1])))
    code = (
        "import sys, time; from pathlib import Path; from loopwright.serve import InferenceProcess\n"
        "root = Path(sys.argv[1])\n"
        "p = InferenceProcess.start(state=root/'serving'/'state.json', objects=str(root/'objects'),"
        " journal=root/'journal', cache=root/'cache')\n"
        "print(p.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(served.root)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert is_running(child)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    wait_for(lambda: not is_running(child) or Path(f"/proc/{child}/status").read_text().split("State:\t")[1][0] == "Z")


def test_a_taken_port_is_said_and_nothing_is_left_behind(served: Served) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "loopwright.serve", "--state", str(served.state), "--objects",
             str(served.root / "objects"), "--journal", str(served.journal), "--port", str(port)],
            capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    assert done.returncode == 3
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert done.stdout == ""
    with pytest.raises(Unavailable, match="did not become ready"):
        served.start(port=port_in_use(), stderr=subprocess.DEVNULL)


_held: list[socket.socket] = []


def port_in_use() -> int:
    _held.append(socket.create_server(("127.0.0.1", 0)))
    return int(_held[-1].getsockname()[1])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets one limit another process")
def test_a_full_disk_stops_the_log_but_not_the_answers(served: Served, plus: dict[int, str]) -> None:
    import resource

    served.publish(endpoint(Variant("champion", "model:m@1", plus[1])))
    process = served.start()
    free = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    with InferenceClient(process.url) as client:
        first = client.infer("e", {"x": [0.0]})
        size = max(item.stat().st_size for item in served.journal.glob("*.journal"))
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size + 3, free[1]))
        full = client.infer("e", {"x": [0.0, 1.0]})
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, free)
        after = client.infer("e", {"x": [5.0]})
    assert (full.outputs["value"], full.prediction_ids) == ([1.0, 2.0], ["", ""])
    assert [item.id for item in logged(served.journal)] == [*first.prediction_ids, *after.prediction_ids]


def test_the_process_loads_neither_sql_nor_frames_nor_tracking(served: Served, bundle: Bundle) -> None:
    served.publish(endpoint(Variant("champion", "model:trips@1", served.put(bundle)), name="trips"))
    code = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from loopwright.serve.process import ProcessSettings, serve\n"
        "root = Path(sys.argv[1])\n"
        "async def main():\n"
        "    s = ProcessSettings(root/'serving'/'state.json', str(root/'objects'), root/'journal', root/'cache')\n"
        "    task = asyncio.create_task(serve(s))\n"
        "    await asyncio.sleep(2)\n"
        "    task.cancel()\n"
        "try:\n    asyncio.run(main())\nexcept asyncio.CancelledError:\n    pass\n"
        "heavy = {'sqlalchemy', 'alembic', 'polars', 'pandas', 'sklearn', 'onnx', 'skl2onnx', 'lightgbm', 'deltalake',"
        " 'datasketches', 'scipy', 'loopwright.track', 'loopwright.store.db', 'loopwright.pipeline'}\n"
        "print(sorted(heavy & set(sys.modules)), 'onnxruntime' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(served.root)], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[] True", done.stderr
