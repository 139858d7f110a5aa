"""The load generators, all compiled programs: wrk for HTTP, h2load for gRPC, flood.c for more than can be answered."""

from __future__ import annotations

import json
import re
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from same import BODIES, HERE, Matrix, Same, grpc_frame, v2_binary
from sides import JSON, Running, pinned

# isort: split
from cost import Cost, Meter

PACKAGES = {"wrk": "wrk", "h2load": "nghttp2-client", "taskset": "util-linux", "cc": "gcc"}
GRPC = "/inference.GRPCInferenceService/ModelInfer"
LUA = """
local bodies, at = {}, 0
wrk.method = "POST"
%s
init = function(args)
  for number = 0, %d do
    local file = assert(io.open("%s/body-" .. number, "rb"))
    bodies[number] = wrk.format(nil, nil, nil, file:read("*a"))
    file:close()
  end
end
request = function()
  at = (at + 1) %% %d
  return bodies[at]
end
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\\nFIGURES {"requests": %%d, "seconds": %%f, "p50_ms": %%f, "p99_ms": %%f, "errors": %%d}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


class Load(msgspec.Struct):
    """What a load generator saw, and what was used meanwhile."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    cost: Cost | None = None

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


def missing() -> list[str]:
    """The programs that are not installed, with the Debian package of each."""
    return [f"{name} (apt-get install {package})" for name, package in PACKAGES.items() if not shutil.which(name)]


def metered(server: Running, command: list[str]) -> tuple[str, Cost]:
    """What a load generator on its own core prints, and what it and the server used.

    Raises:
        RuntimeError: it fails.
    """
    where = [server.load_core] if server.load_core is not None else []
    before = _children_s()
    with Meter(server=server.pid) as meter:
        done = subprocess.run(pinned(where, command) if where else command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} fails: {(done.stderr or done.stdout)[-400:]}")
    cost = meter.cost
    used = (_children_s() - before) / cost.wall_s
    return done.stdout, msgspec.structs.replace(cost, client=cost.client + used, others=max(cost.others - used, 0.0))


def _children_s() -> float:
    """Processor time of the programs that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def http(server: Running, same: Same, count: int, connections: int, seconds: int, binary: bool = False) -> Load:
    """wrk on kept-alive connections, each with one request under way, the bodies in turn.

    Raises:
        RuntimeError: a connection failed, or an answer was no 2xx.
    """
    bodies = [_body(server, same.part(number, count), binary) for number in range(BODIES)]
    # A binary body's JSON has the same length for as many rows, so that one set of headers does for all.
    headers = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in bodies[0][1].items())
    with tempfile.TemporaryDirectory(prefix="bench-serving-") as folder:
        for number, (body, _) in enumerate(bodies):
            (Path(folder) / f"body-{number}").write_bytes(body)
        script = Path(folder) / "post.lua"
        script.write_text(LUA % (headers, BODIES - 1, folder, BODIES))
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(script)]
        text, cost = metered(server, [*command, server.url + server.side.path])
    found = json.loads(text.rpartition("FIGURES ")[2])
    if found.pop("errors") or not found["requests"]:
        raise RuntimeError(f"wrk saw errors, or no answer:\n{text[-600:]}")
    return Load(**found, cost=cost)


def _body(server: Running, rows: Matrix, binary: bool) -> tuple[bytes, dict[str, str]]:
    return v2_binary(rows) if binary else (server.side.body(rows), JSON)


def grpc(server: Running, rows: Matrix, streams: int, seconds: int) -> Load:
    """h2load: as many streams on one connection, each with one call under way.

    h2load cannot read trailers. The length of what came back says that each answer was one: an error has no message.

    Raises:
        RuntimeError: a call failed.
    """
    with tempfile.TemporaryDirectory(prefix="bench-serving-") as folder:
        body, log = Path(folder) / "body", Path(folder) / "log"
        body.write_bytes(grpc_frame(rows))
        command = ["h2load", "-t1", "-c1", f"-m{streams}", f"-D{seconds}", "--warm-up-time=1", "-d", str(body)]
        command += ["-H", "content-type: application/grpc", "-H", "te: trailers", f"--log-file={log}"]
        text, cost = metered(server, [*command, f"http://{server.grpc}{GRPC}"])
        times = np.loadtxt(log, dtype=np.int64, ndmin=2) if log.stat().st_size else np.zeros((0, 3), np.int64)
    return Load(*_calls(text, times, seconds), cost=cost)


def _calls(text: str, times: np.ndarray, seconds: int) -> tuple[int, float, float, float]:
    numbers = {name: int(found) for found, name in re.findall(r"(\d+) (done|succeeded|failed|errored|timeout)", text)}
    data = re.search(r"\((\d+)\) data", text)
    if not numbers.get("done") or numbers["done"] != numbers["succeeded"] or not data or not len(times):
        raise RuntimeError(f"h2load saw errors, or no answer:\n{text[-600:]}")
    if int(data[1]) < 20 * numbers["done"]:
        raise RuntimeError(f"{numbers['done']} calls brought only {data[1]} bytes of messages")
    taken = times[:, 2] / 1000
    return numbers["done"], float(seconds), float(np.percentile(taken, 50)), float(np.percentile(taken, 99))


def build_flood(folder: Path) -> Path:
    """The open-loop generator, compiled."""
    program = folder / "flood"
    if not program.exists():
        subprocess.run(["cc", "-O2", "-o", str(program), str(HERE / "flood.c")], check=True)
    return program


class Flood(msgspec.Struct):
    """What an open-loop load saw: latencies in ms from the moment at which a request was due.

    `others` had another status than 200 and 503, `closed` lost their connection, `silent` had no answer five seconds
    after the end. `unsent` requests found no free connection within a second; `full` is the share of the generator's
    turns in which something was due and none was free; `waited` the share of the time in which the generator was ready
    to run and had no core, -1 where nobody knows.
    """

    offered: float
    sent: int
    accepted: int
    refused: int
    others: int
    closed: int
    silent: int
    accepted_p99_ms: float
    refused_p50_ms: float
    refused_p99_ms: float
    unsent: int
    full: float
    waited: float = -1.0


def flood_command(program: Path, server: Running, rows: Sequence[Matrix], rate: float, seconds: int) -> list[str]:
    """The generator's command for requests of these rows in turn, over 2,048 connections."""
    port = server.url.rpartition(":")[2]
    place = program.parent / "flood-requests"
    with place.open("wb") as file:
        for part in rows:
            body = server.side.body(part)
            head = f"POST {server.side.path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            whole = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
            file.write(len(whole).to_bytes(4, "little") + whole)
    return [str(program), port, str(place), f"{rate:.0f}", str(seconds), "2048"]
