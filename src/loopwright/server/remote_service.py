"""A service of a workspace on a server: its operations, as methods."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from loopwright.core import Invalid, Operation, operations_of

if TYPE_CHECKING:
    import httpx


class Line(Protocol):
    """The way to a server. Thread-safe; a method raises Unavailable where nobody answers, and what was raised there."""

    url: str

    def call(self, operation: Operation, request: msgspec.Struct | Mapping[str, Any]) -> Any:
        """Ask an operation."""
        ...

    def post(
        self, path: str, body: bytes | Iterable[bytes], content_type: str, result: Any, query: Mapping[str, str] = {}
    ) -> Any:
        """Send bytes to a path; the answer, decoded from JSON."""
        ...

    def stream(self, path: str, headers: Mapping[str, str]) -> AbstractContextManager[httpx.Response]:
        """The answer to a GET, whose body is read piece by piece in the block."""
        ...


class RemoteService:
    """The operations of one service, as methods. What needs the local machine (paths, data frames) is not there."""

    def __init__(self, workspace: Line, name: str, service_type: type) -> None:
        self._workspace, self._name, self._type = workspace, name, service_type
        self._operations = {operation.method: operation for operation in operations_of(service_type)}

    def __getattr__(self, method: str) -> Callable[..., Any]:
        if method.startswith("_"):
            raise AttributeError(method)
        operation = self._operations.get(method)
        if operation is not None:
            return self._bound(operation)
        if hasattr(self._type, method):
            raise Invalid(
                f"ws.{self._name}.{method} works on this machine's files and memory, and cannot be asked of a server",
                next_step="open the workspace locally, or use one of: " + ", ".join(sorted(self._operations)),
            )
        raise AttributeError(f"ws.{self._name} has no method {method!r}")

    def __dir__(self) -> list[str]:
        return sorted(self._operations)

    def _bound(self, operation: Operation) -> Callable[..., Any]:
        names = [field.name for field in msgspec.structs.fields(operation.request_type)]

        def ask(*given: Any, **values: Any) -> Any:
            if len(given) > len(names):
                raise TypeError(f"{operation.name} takes {len(names)} arguments, {len(given)} were given")
            return self._workspace.call(operation, {**dict(zip(names, given, strict=False)), **values})

        ask.__name__, ask.__doc__ = operation.method, operation.function.__doc__
        return ask
