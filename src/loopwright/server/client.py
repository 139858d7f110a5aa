"""A workspace on a server, with the same services as a local one: each operation is a request.

Used by `loopwright.connect("https://…")`. Results are decoded into the same records, errors raised as the same classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core import (
    KINDS,
    Corrupt,
    Invalid,
    LoopwrightError,
    NotFound,
    Operation,
    Unauthorized,
    Unavailable,
)
from loopwright.server.remote_service import RemoteService

if TYPE_CHECKING:
    import httpx

    from loopwright.serve import RecordedScoring

_TIMEOUT_S = 120.0


class RemoteWorkspace:
    """A workspace behind `loopwright up`. Use it in a `with`, or close it. Thread-safe.

    with loopwright.connect("https://models.example.org", token=…) as ws:
        ws.runs.search("metrics.auc > 0.8")
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        project: str | None = None,
        *,
        services: Mapping[str, type] | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Args:
            url: the server's address.
            token: the bearer token; none for a server in local mode on this machine.
            project: the project to act in; by default the server's own.
            services: service types by the workspace's attribute; by default those of a workspace.
            transport: how to reach the server, for tests.

        Raises:
            Invalid: the address is no http(s) address, or a token would travel in clear text to another machine.
        """
        self.url, self.project = url.rstrip("/"), project
        self._services = services
        self._client = _open(self.url, token, project, transport)

    def service(self, room: str) -> Any:
        """The service behind a room of the API.

        Raises:
            NotFound: the API has no such room.
        """
        return getattr(self, room)

    def __getattr__(self, name: str) -> RemoteService:
        if name.startswith("_"):
            raise AttributeError(name)
        kind = self._type_of(name)
        service = _remote(kind)(self, name, kind)
        self.__dict__[name] = service
        return service

    def call(self, operation: Operation, request: msgspec.Struct | Mapping[str, Any]) -> Any:
        """Ask an operation of the server.

        Raises:
            Unavailable: the server does not answer.
            Corrupt: its answer is not what this version of Loopwright understands.
            LoopwrightError: whatever the operation raised there.
        """
        path = f"/api/v1/{operation.room}/{operation.verb}"
        return self.post(path, msgspec.json.encode(request), "application/json", operation.result_type)

    def post(
        self, path: str, body: bytes | Iterable[bytes], content_type: str, result: Any, query: Mapping[str, str] = {}
    ) -> Any:
        """Send bytes to a path; the answer, decoded from JSON.

        Raises:
            Unavailable: the server does not answer.
            Corrupt: its answer is not what this version of Loopwright understands.
            LoopwrightError: whatever was raised there.
        """
        import httpx

        try:
            answer = self._client.post(path, content=body, headers={"Content-Type": content_type}, params=dict(query))
        except httpx.HTTPError as error:
            raise Unavailable(
                f"the workspace at {self.url} does not answer: {error}", next_step="start it with: loopwright up"
            ) from error
        if answer.status_code != 200:
            raise _error_from(answer, self.url)
        try:
            return msgspec.json.decode(answer.content, type=result)
        except msgspec.DecodeError as error:
            raise Corrupt(
                f"the server's answer to {path} cannot be read: {error}",
                next_step="use the same version of Loopwright on both sides",
            ) from error

    @contextmanager
    def stream(self, path: str, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """The answer to a GET, whose body is read piece by piece in the block.

        Raises:
            Unavailable: the server does not answer, or breaks off.
            LoopwrightError: whatever was raised there.
        """
        import httpx

        try:
            with self._client.stream("GET", path, headers=dict(headers)) as answer:
                if answer.status_code not in (200, 206):
                    answer.read()
                    raise _error_from(answer, self.url)
                yield answer
        except httpx.HTTPError as error:
            raise Unavailable(
                f"the workspace at {self.url} does not answer: {error}", next_step="start it with: loopwright up"
            ) from error

    @cached_property
    def scoring(self) -> RecordedScoring:
        """Scoring of files of this machine, here, by models of the server; told to it as runs."""
        from loopwright.serve import RecordedScoring

        return RecordedScoring(self.models, self.runs)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> RemoteWorkspace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"RemoteWorkspace({self.url!r}, project={self.project!r})"

    @cached_property
    def _rooms(self) -> dict[str, str]:
        from loopwright.workspace import SERVICES

        return {attribute: room for room, (_, _, attribute) in SERVICES.items()}

    def _type_of(self, name: str) -> type:
        from loopwright.workspace import service_type

        if self._services is not None:
            if name not in self._services:
                raise AttributeError(f"the workspace has no {name!r}; it has {', '.join(self._services)}")
            return self._services[name]
        try:
            return service_type(self._rooms.get(name, name))
        except NotFound as error:
            raise AttributeError(str(error)) from None


def _remote(kind: type) -> type[RemoteService]:
    """The class that stands for a service: one of its own where there is more to it than operations."""
    if kind.__name__ == "RunService":
        from loopwright.server.remote_runs import RemoteRuns

        return RemoteRuns
    if kind.__name__ == "ModelService":
        from loopwright.server.remote_models import RemoteModels

        return RemoteModels
    return RemoteService


def _open(url: str, token: str | None, project: str | None, transport: httpx.BaseTransport | None) -> httpx.Client:
    import httpx

    from loopwright.server.settings import is_loopback

    parsed = httpx.URL(url)
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise Invalid(f"{url!r} is not the address of a server", next_step="write it as https://HOST[:PORT]")
    if token and parsed.scheme == "http" and not is_loopback(parsed.host):
        raise Invalid(
            f"a token would travel in clear text to {parsed.host}", next_step=f"use https://{parsed.netloc.decode()}"
        )
    headers = {"Authorization": f"Bearer {token}"} if token else {"Loopwright-CSRF": "1"}
    if project:
        headers["Loopwright-Project"] = project
    timeout = httpx.Timeout(_TIMEOUT_S, connect=10.0)
    # Reading the trusted authorities takes 60 ms, which an address without TLS need not spend.
    verify = parsed.scheme == "https"
    return httpx.Client(
        base_url=url, headers=headers, timeout=timeout, trust_env=False, transport=transport, verify=verify
    )


def _error_from(answer: httpx.Response, url: str) -> LoopwrightError:
    """The error that the server told of, in its own class."""
    try:
        told = msgspec.json.decode(answer.content)["error"]
        message, where, next_step = str(told["message"]), str(told["where"]), str(told["next_step"])
        kind = KINDS.get(told["code"]) or _kind_for(answer.status_code)
    except (msgspec.DecodeError, KeyError, TypeError):
        return Unavailable(
            f"{url} answered with status {answer.status_code}, not as Loopwright does", next_step="check the address"
        )
    return kind(message, where=where, next_step=next_step)


def _kind_for(status: int) -> type[LoopwrightError]:
    by_status = {401: Unauthorized, 404: NotFound}
    return by_status.get(status, Invalid if status < 500 else Unavailable)
