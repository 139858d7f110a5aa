"""The access log: a line of JSON for each response, on request. It never slows or fails serving.

Lines gather in memory and a thread writes them; where it cannot keep up, lines are dropped and counted.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

import msgspec

from loopwright.core import Unavailable
from loopwright.serve.codes import HTTP_STATUS, Code
from loopwright.serve.metrics import Figure
from loopwright.serve.rest.http import WatchedExchange
from loopwright.serve.watching import Watched, WatchedCall

TO_STDERR = "-"
_EVERY_S = 0.2
_MOST_WAITING = 50_000
_MOST_TEXT = 256


class AccessLine(msgspec.Struct, omit_defaults=True):
    """One response.

    Attributes:
        time: when it was given, in seconds since 1970.
        client: the address of whoever asked.
        method, path: of the request, without a query, which may hold what nobody wants in a log; a long one is cut off.
        status: the HTTP status; over gRPC that of the same outcome.
        took_ms: from the arrival of the request to its answer.
        bytes_in, bytes_out: the sizes of the bodies.
        endpoint: which endpoint answered; none for other requests.
        trace: the id of the trace that the request belongs to (W3C traceparent).
        pid: of the worker.
        grpc: the name of gRPC's code; none over HTTP.
    """

    time: float
    client: str
    method: str
    path: str
    status: int
    took_ms: float
    bytes_in: int
    bytes_out: int
    endpoint: str = ""
    trace: str = ""
    pid: int = 0
    grpc: str = ""


class AccessLog:
    """Writes a line per response. `note` is the event loop's; a thread of its own writes."""

    def __init__(self, target: str) -> None:
        """Args:
        target: a file, to which several processes may append; `-` for stderr.

        Raises:
            Unavailable: the file cannot be opened.
        """
        try:
            self._descriptor = _opened(target)
        except OSError as error:
            raise Unavailable(f"the access log {target} cannot be written: {error.strerror or error}") from error
        self._encode = msgspec.json.Encoder().encode
        self._pid = os.getpid()
        self._lines: list[AccessLine] = []
        self._stop = threading.Event()
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="loopwright-access-log", daemon=True)
        self._thread.start()

    def note(self, exchange: WatchedExchange, status: int, size: int) -> None:
        """Take down a response over HTTP."""
        self._note(exchange, exchange.method, status, len(exchange.body), size)

    def note_call(self, call: WatchedCall, code: Code, size: int) -> None:
        """Take down a response over gRPC; each response of a stream has a line."""
        self._note(call, b"POST", HTTP_STATUS.get(code, 500), call.size, size, code.name)

    def _note(self, asked: Watched, method: bytes, status: int, size_in: int, size_out: int, grpc: str = "") -> None:
        if len(self._lines) >= _MOST_WAITING:
            self.dropped += 1
            return
        self._lines.append(
            AccessLine(
                time.time(),
                asked.peer,
                method.decode("latin-1"),
                asked.path.partition(b"?")[0][:_MOST_TEXT].decode("latin-1"),
                status,
                round((time.monotonic_ns() - asked.started_ns) * 1e-6, 3),
                size_in,
                size_out,
                asked.endpoint,
                trace_of(asked.headers.get(b"traceparent", b"")),
                self._pid,
                grpc,
            )
        )

    def figures(self) -> list[Figure]:
        """What Prometheus is told."""
        return [("access_lines_dropped_total", "counter", "Lines that the access log had no time for.", self.dropped)]

    def close(self) -> None:
        """Write what waits."""
        self._stop.set()
        self._thread.join()
        os.close(self._descriptor)

    def _run(self) -> None:
        stopping = False
        while not stopping:
            stopping = self._stop.wait(_EVERY_S)
            lines, self._lines = self._lines, []
            if lines:
                self._write(lines)

    def _write(self, lines: list[AccessLine]) -> None:
        view = memoryview(b"".join(self._encode(line) + b"\n" for line in lines))
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError:  # a full disk costs lines, never answers
            self.dropped += len(lines)


def trace_of(traceparent: bytes) -> str:
    """The trace id in a W3C traceparent (https://www.w3.org/TR/trace-context/#traceparent-header); empty for none."""
    parts = traceparent.split(b"-")
    if len(parts) < 4 or len(parts[1]) != 32 or len(parts[2]) != 16:
        return ""
    with contextlib.suppress(ValueError):
        if int(parts[1], 16) and int(parts[2], 16):
            return parts[1].decode().lower()
    return ""


def _opened(target: str) -> int:
    if target == TO_STDERR:
        return os.dup(2)
    path = Path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
