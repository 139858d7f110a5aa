"""MLflow's REST interface: JSON and files over one kept-alive connection, with patience for a busy server."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import httpx

from loopwright.connect.mlflow.mapping import shown_address
from loopwright.core import Conflict, Forbidden, Invalid, LoopwrightError, NotFound, Unauthorized, Unavailable
from loopwright.store import Readable

V2 = "/api/2.0/mlflow"
PROXY = "/api/2.0/mlflow-artifacts/artifacts"
_TIMEOUT = httpx.Timeout(300.0, connect=10.0)
_TRIES = 5
_REFUSED, _LOST = (429, 503), (502, 504)
_REPEATABLE = ("/search", "/log-batch", "/set-tag", "/update")
_CHUNK_BYTES = 1 << 20
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_KINDS: dict[int, type[LoopwrightError]] = {
    400: Invalid,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
}


class MlflowApi:
    """An MLflow server. Who asks is said by MLflow's own variables (`MLFLOW_TRACKING_TOKEN`, or user and password)."""

    def __init__(self, uri: str, *, allow_http: bool = False) -> None:
        """Args:
            allow_http: speak in clear text to another machine, too.

        Raises:
            Invalid: the address is none, or is in clear text to another machine.
        """
        url = httpx.URL(uri)
        self.shown = shown_address(uri)
        if url.scheme not in ("http", "https") or not url.host:
            raise Invalid(f"{self.shown!r} is no address of a server", next_step="write it as https://HOST[:PORT]")
        if url.scheme == "http" and url.host not in _LOOPBACK and not allow_http:
            raise Invalid(f"{self.shown} would be spoken to in clear text", next_step="use https, or --allow-http")
        token, user = os.environ.get("MLFLOW_TRACKING_TOKEN"), os.environ.get("MLFLOW_TRACKING_USERNAME")
        auth = httpx.BasicAuth(user, os.environ.get("MLFLOW_TRACKING_PASSWORD", "")) if user else None
        headers = {"Authorization": f"Bearer {token}"} if token and not user else {}
        self._client = httpx.Client(base_url=uri, headers=headers, auth=auth, timeout=_TIMEOUT, trust_env=False)

    def get(self, path: str, /, **query: Any) -> dict[str, Any]:
        """The answer to a GET. Raises as `ask` does."""
        return self.ask("GET", path, query={name: value for name, value in query.items() if value not in ("", None)})

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a POST. Raises as `ask` does."""
        return self.ask("POST", path, body=body)

    def ask(
        self, method: str, path: str, *, query: Mapping[str, Any] = {}, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The answer to a request.

        Raises:
            NotFound, Conflict, Invalid, Forbidden, Unauthorized: the server refused, and said so.
            Unavailable: it does not answer, or not as MLflow does.
        """
        content = None if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"Content-Type": "application/json"}
        request = self._client.build_request(method, path, params=dict(query), content=content, headers=headers)
        answer = self._patiently(request)
        if answer.status_code != 200:
            raise self._error(answer)
        try:
            found = json.loads(answer.content or b"{}")
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise Unavailable(f"{self.shown} does not answer as MLflow does", next_step="check the address")
        return found

    @contextmanager
    def file(self, path: str, /, **query: str) -> Iterator[Readable]:
        """A file as a stream. Raises as `ask` does."""
        try:
            with self._client.stream("GET", path, params=query) as answer:
                if answer.status_code != 200:
                    answer.read()
                    raise self._error(answer)
                yield _Body(answer.iter_bytes(_CHUNK_BYTES))
        except httpx.HTTPError as error:
            raise Unavailable(f"{self.shown} broke off: {error}") from error

    def send_file(self, path: str, stream: Readable, size_bytes: int) -> None:
        """Put a file behind the server's proxy. Raises as `ask` does."""
        headers = {"Content-Length": str(size_bytes), "Content-Type": "application/octet-stream"}
        address = f"{PROXY}/{quote(path)}"
        try:
            answer = self._client.put(
                address, content=_pieces(stream, size_bytes) if size_bytes else b"", headers=headers
            )
        except httpx.HTTPError as error:
            raise Unavailable(f"{self.shown} broke off: {error}") from error
        if answer.status_code not in (200, 201, 204):
            raise self._error(answer)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _patiently(self, request: httpx.Request) -> httpx.Response:
        """The answer, asked for again while the server is busy; what may have been heard, only if that is harmless."""
        harmless = request.method == "GET" or request.url.path.endswith(_REPEATABLE)
        for attempt in range(_TRIES):
            try:
                answer = self._client.send(request)
            except httpx.HTTPError as error:
                if attempt == _TRIES - 1 or not harmless or isinstance(error, httpx.ConnectError):
                    raise Unavailable(
                        f"{self.shown} does not answer: {error}", next_step="check the address"
                    ) from error
            else:
                unheard = answer.status_code in _REFUSED
                if attempt == _TRIES - 1 or not (unheard or (harmless and answer.status_code in _LOST)):
                    return answer
            time.sleep(0.2 * 2**attempt)
        raise AssertionError("the last try returns or raises")

    def _error(self, answer: httpx.Response) -> LoopwrightError:
        try:
            told = json.loads(answer.content)
            message = str(told["message"])[:500]
        except (ValueError, KeyError, TypeError):
            message = f"{self.shown} answered with status {answer.status_code}"
            told = {}
        if told.get("error_code") == "RESOURCE_ALREADY_EXISTS":
            return Conflict(message)
        return _KINDS.get(answer.status_code, Unavailable)(message)


class _Body:
    """A reply's body as something to read from."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest = pieces, b""

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes, at most `size`; all that are left without one; empty at the end."""
        if size < 0:
            rest, self._rest = self._rest + b"".join(self._pieces), b""
            return rest
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = piece
        found, self._rest = self._rest[:size], self._rest[size:]
        return found


def _pieces(stream: Readable, left: int) -> Iterator[bytes]:
    """The next `left` bytes: a stream may go on with what is no part of the file."""
    while left > 0 and (piece := stream.read(min(left, _CHUNK_BYTES))):
        left -= len(piece)
        yield piece
