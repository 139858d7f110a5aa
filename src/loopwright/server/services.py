"""The services that stand behind the routes, asked by the names of their operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import anyio
import anyio.to_thread
import msgspec

from loopwright.core import Invalid, NotFound, Operation, Scope, operations_of
from loopwright.govern import Identity, authorise

Factory = Callable[[Scope], Any]
ServiceMap = Mapping[str, tuple[type, Factory]]


class Services:
    """Operations by name, each called in a bounded set of threads, since services are synchronous."""

    def __init__(self, services: ServiceMap, threads: int = 16) -> None:
        """Raises:
        Invalid: two services declare an operation of the same name.
        """
        self._operations: dict[str, tuple[Operation, Factory]] = {}
        self._factories = {name: factory for name, (_, factory) in services.items()}
        for service_type, factory in services.values():
            for operation in operations_of(service_type):
                if operation.name in self._operations:
                    raise Invalid(f"two services declare the operation {operation.name}")
                self._operations[operation.name] = (operation, factory)
        self._threads = threads
        self._limiter: anyio.CapacityLimiter | None = None

    def operations(self) -> list[Operation]:
        """All operations, by name."""
        return [operation for _, (operation, _) in sorted(self._operations.items())]

    def find(self, name: str) -> Operation:
        """The operation of that name.

        Raises:
            NotFound: there is none.
        """
        if name not in self._operations:
            raise NotFound(f"there is no operation {name!r}", next_step="see /openapi.json")
        return self._operations[name][0]

    def has(self, name: str) -> bool:
        """Whether there is an operation of that name."""
        return name in self._operations

    def service(self, name: str, scope: Scope) -> Any:
        """The service of that name, for what is no operation, such as a stream; the caller judges permission."""
        return self._factories[name](scope)

    async def ask(self, identity: Identity | None, scope: Scope, name: str, values: Mapping[str, Any]) -> Any:
        """Judge the permission, check the values, call.

        Raises:
            Unauthorized, Forbidden: the identity may not.
            Invalid: a value does not fit.
        """
        operation = self.find(name)
        authorise(identity, operation.permission, scope.project)
        return await self.call(operation, scope, convert(operation, values))

    async def call(self, operation: Operation, scope: Scope, request: msgspec.Struct) -> Any:
        """Call an operation whose permission was judged."""
        factory = self._operations[operation.name][1]
        return await self.in_thread(lambda: operation.call(factory(scope), request))

    async def in_thread(self, function: Callable[[], Any]) -> Any:
        """Run a blocking function in one of the bounded threads."""
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(self._threads)
        return await anyio.to_thread.run_sync(function, limiter=self._limiter)


def convert(operation: Operation, values: Mapping[str, Any], *, strict: bool = True) -> msgspec.Struct:
    """The request of an operation from plain values; with `strict=False`, from the texts of a query string.

    Raises:
        Invalid: a value does not fit, is missing, or has an unknown name.
    """
    try:
        found: msgspec.Struct = msgspec.convert(dict(values), operation.request_type, strict=strict)
    except msgspec.ValidationError as error:
        raise Invalid(str(error), where=operation.name, next_step="see /openapi.json") from None
    return found


def parse(operation: Operation, body: bytes) -> msgspec.Struct:
    """The request of an operation from a JSON body; an empty body stands for no values.

    Raises:
        Invalid: the body is not JSON, or does not fit.
    """
    try:
        found: msgspec.Struct = msgspec.json.decode(body or b"{}", type=operation.request_type)
    except msgspec.ValidationError as error:
        raise Invalid(str(error), where=operation.name, next_step="see /openapi.json") from None
    except msgspec.DecodeError as error:
        raise Invalid(f"the body is not JSON: {error}", where=operation.name, next_step="send a JSON object") from None
    return found
