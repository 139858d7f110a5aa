"""A server that answers each request with what it was sent, and ends with its parent."""

import hashlib
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/metrics":
            return self.reply(200, b"predictions_total 7\n", "text/plain")
        if self.path == "/v2/health/ready":
            return self.reply(200, b"")
        return self.reply(200, json.dumps(self.seen(b"")).encode())

    def do_POST(self) -> None:
        body = self.body()
        if self.path.startswith("/v2/models/slow"):
            time.sleep(0.3)
        if self.path.startswith("/v2/models/die"):
            os._exit(9)
        status = 503 if self.path.startswith("/v2/models/full") else 200
        self.reply(status, json.dumps(self.seen(body)).encode())

    def body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def seen(self, body: bytes) -> dict[str, object]:
        headers = {name.lower(): value for name, value in self.headers.items()}
        found = {"path": self.path, "headers": headers, "bytes": len(body), "digest": hashlib.sha256(body).hexdigest()}
        return found | {"connection": self.client_address[1]}

    def reply(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Be quiet."""


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
