"""The sides: how each server is configured, started on one core, asked, and stopped."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from same import BODIES, HERE, MODEL, Matrix, Same, read_v2, v2_binary, v2_json

# isort: split
from cost import processes
from peers import Server, environment, settle, stop
from spool import free_port

START_S = 180.0
SETTLE_S = 8.0
LOADING = (404, 502, 503)
APPS = HERE / "apps"
JSON = {"Content-Type": "application/json"}
V2 = f"/v2/models/{MODEL}/infer"


class Side(msgspec.Struct, frozen=True):
    """A server in one configuration.

    Attributes:
        name: as tables show it.
        peer: its environment's name; empty for ours.
        path: where it is asked.
        body: the JSON that it takes for rows.
        read: the probabilities in its answer.
        batch: how many requests its own batching may put together; 0 for none.
        binary: whether it takes V2's binary tensors.
        grpc: whether it answers V2 over gRPC.
    """

    name: str
    peer: str
    path: str
    body: Callable[[Matrix], bytes]
    read: Callable[[Any], list[float]]
    batch: int = 0
    binary: bool = False
    grpc: bool = False


def _rows(rows: Matrix) -> bytes:
    return json.dumps({"rows": rows.tolist()}).encode()


def _inputs(rows: Matrix) -> bytes:
    return json.dumps({"inputs": rows.tolist()}).encode()


def _v2(found: Any) -> list[float]:
    return read_v2(json.dumps(found).encode(), None)


def _named(found: Any) -> list[float]:
    return list(found["probability"])


def _predictions(found: Any) -> list[float]:
    return list(found["predictions"])


SIDES = {
    side.name: side
    for side in (
        Side("loopwright", "", V2, v2_json, _v2, binary=True, grpc=True),
        Side("mlserver", "mlserver", V2, v2_json, _v2, grpc=True),
        Side("mlserver batching", "mlserver", V2, v2_json, _v2, batch=64, grpc=True),
        Side("litserve", "litserve", "/predict", _rows, _named),
        Side("litserve batching", "litserve", "/predict", _rows, _named, batch=64),
        Side("bentoml", "bentoml", "/predict", _rows, list),
        Side("bentoml batching", "bentoml", "/predict", _rows, list, batch=64),
        Side("mlflow", "mlflow-serve", "/invocations", _inputs, _predictions),
        Side("kserve", "kserve", V2, v2_json, _v2, binary=True, grpc=True),
        Side("ray", "ray", "/predict", _rows, _named),
        Side("ray batching", "ray", "/predict", _rows, _named, batch=64),
    )
}


class Running(Server):
    """A side's server, ready, with what it takes to ask it."""

    side: Side = SIDES["loopwright"]
    grpc: str = ""
    load_core: int | None = None

    def ask(self, rows: Matrix, binary: bool = False) -> list[float]:
        """Its probabilities for rows, asked once over a connection of its own."""
        body, headers = v2_binary(rows) if binary else (self.side.body(rows), JSON)
        request = urllib.request.Request(self.url + self.side.path, body, headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            found = answer.read()
            if binary:
                return read_v2(found, answer.headers["Inference-Header-Content-Length"])
            return self.side.read(json.loads(found))


def cores(servers: int) -> tuple[list[int], int | None]:
    """The cores of a server, and the one of the load generator; None where none is left for it alone."""
    free = sorted(os.sched_getaffinity(0))
    return free[:servers], free[servers] if len(free) > servers else None


def pinned(where: Sequence[int], command: list[str]) -> list[str]:
    """That command, with all that it starts, on these cores."""
    return ["taskset", "-c", ",".join(map(str, where)), *command]


def prepare(side: Side, folder: Path) -> None:
    """What a side needs once before its first start: its environment, and the folder of a model that MLflow wrote."""
    if side.peer:
        python = environment(side.peer, HERE)
        if side.name == "mlflow":
            command = [str(python), str(APPS / "mlflow_app.py"), str(folder / "mlflow-model")]
            subprocess.run(command, check=True, capture_output=True, env=_variables(side, folder), cwd=folder)


def _variables(side: Side, folder: Path) -> dict[str, str]:
    if not side.peer:
        return {**os.environ}
    path = f"{environment(side.peer, HERE).parent}{os.pathsep}{os.environ['PATH']}"
    own = {"BENCH_MODEL": str(folder / MODEL / "model.onnx"), "BENCH_BATCH": str(side.batch), "PYTHONPATH": str(APPS)}
    # Numeric libraries would start a thread for each core of the machine; the side has one.
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    quiet = {"BENTOML_DO_NOT_TRACK": "True", "MLFLOW_DISABLE_TELEMETRY": "true", "RAY_USAGE_STATS_ENABLED": "0"}
    fast = {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    return {**os.environ, "PATH": path, **own, **threads, **quiet, **fast}


def _command(side: Side, place: Path, folder: Path, port: int, grpc: int, workers: int) -> list[str]:
    if not side.peer:
        ours = [sys.executable, "-m", "loopwright", "serve", "--bundle", str(folder / MODEL), "--name", MODEL]
        ports = ["--port", str(port), "--grpc-port", str(grpc)]
        return [*ours, *ports, "--workers", str(workers), "--journal", str(place / "journal")]
    python = environment(side.peer, HERE)
    if side.peer == "mlserver":
        _mlserver(side, place, port, grpc)
        return [str(python.with_name("mlserver")), "start", str(place)]
    if side.peer == "bentoml":
        serve = [str(python.with_name("bentoml")), "serve", "bentoml_app:Served", "--working-dir", str(APPS)]
        return [*serve, "--host", "127.0.0.1", "--port", str(port)]
    if side.peer == "mlflow-serve":
        serve = [str(python.with_name("mlflow")), "models", "serve", "-m", str(folder / "mlflow-model")]
        return [*serve, "-p", str(port), "--env-manager", "local", "--workers", "1"]
    program = [str(python), str(APPS / f"{side.peer}_app.py"), str(port)]
    return [*program, str(grpc)] if side.grpc else program


def _mlserver(side: Side, place: Path, port: int, grpc: int) -> None:
    """One process that also runs the model, no metrics, no log of requests."""
    settings = {"host": "127.0.0.1", "http_port": port, "grpc_port": grpc, "parallel_workers": 0, "debug": False}
    settings |= {"metrics_endpoint": None, "load_models_at_startup": True}
    (place / "settings.json").write_text(json.dumps(settings))
    model: dict[str, Any] = {"name": MODEL, "implementation": "mlserver_app.Runtime"}
    if side.batch:
        model |= {"max_batch_size": side.batch, "max_batch_time": 0.001}
    (place / "model-settings.json").write_text(json.dumps(model))


@contextlib.contextmanager
def running(side: Side, same: Same, workers: int = 1) -> Iterator[Running]:
    """A side's server on as many cores as it has workers; ready, at rest, and proved to answer as the model does.

    Raises:
        RuntimeError: it does not start, or answers something else.
    """
    with tempfile.TemporaryDirectory(prefix="bench-serving-", ignore_cleanup_errors=True) as text:
        place, port, grpc = Path(text), free_port(), free_port()
        where, load_core = cores(workers)
        command = pinned(where, _command(side, place, same.bundle.parent, port, grpc, workers))
        variables = _variables(side, same.bundle.parent)
        started = time.perf_counter()
        with (place / "server.log").open("ab") as log:
            process = subprocess.Popen(command, cwd=place, env=variables, stdout=log, stderr=log)
        try:
            server = Running(side.name, f"http://127.0.0.1:{port}", process.pid, place, "", side=side)
            server.grpc, server.load_core = f"127.0.0.1:{grpc}", load_core
            _wait(process, server, same, started)
            _prove(server, same)
            settle([server], SETTLE_S)  # some servers poll for work, and never rest
            yield server
        finally:
            family = processes(process.pid)
            stop(process)
            for left in family:
                with contextlib.suppress(Exception):
                    left.kill()


def _wait(process: subprocess.Popen[bytes], server: Running, same: Same, started: float) -> None:
    """Ready is the first right answer to one row."""
    deadline, last = time.monotonic() + START_S, ""
    while time.monotonic() < deadline and process.poll() is None:
        try:
            found = server.ask(same.part(0, 1))
            server.start_s = time.perf_counter() - started
            same.right(found, 0, 1)
            return
        except urllib.error.HTTPError as error:
            last = f"{error}: {error.read()[:200]!r}"
            if error.code not in LOADING:
                break
        except OSError as error:
            last = str(error)
        time.sleep(0.02)
    log = (server.folder / "server.log").read_text(errors="replace")
    raise RuntimeError(f"{server.name} does not answer ({last}):\n{log[-1500:]}")


def _prove(server: Running, same: Same) -> None:
    """Every body that will be sent, asked once, in each form that the side takes."""
    for count in (1, 32):
        for number in range(BODIES):
            same.right(server.ask(same.part(number, count)), number, count)
            if server.side.binary:
                same.right(server.ask(same.part(number, count), binary=True), number, count)
