"""A receiver of webhooks on this machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Heard(NamedTuple):
    """One request: its headers by lower-case name, and its body."""

    headers: dict[str, str]
    body: str


class Receiver:
    """Answers each POST with the next of `answers`, then with 200, and keeps what it heard."""

    def __init__(self, port: int) -> None:
        self.port, self.url = port, f"http://127.0.0.1:{port}/hook"
        self.heard: list[Heard] = []
        self.answers: list[int] = []
        self.arrived = threading.Condition()

    def take(self, heard: Heard) -> int:
        with self.arrived:
            self.heard.append(heard)
            self.arrived.notify_all()
            return self.answers.pop(0) if self.answers else 200

    def wait(self, count: int, within_s: float = 20.0) -> list[Heard]:
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.heard) >= count, within_s), self.heard
            return list(self.heard)


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A running receiver."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            status = receiver.take(Heard({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(status)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"fine")

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver = Receiver(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield receiver
    server.shutdown()
    thread.join()
    server.server_close()
