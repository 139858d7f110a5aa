"""Operations: what one can ask of a room, declared once; routes, OpenAPI, client, CLI and permissions derive from it.

    class RunService:
        @operation("runs.search", permission="runs:read")
        def search(self, filter: str = "", limit: int = 100) -> RunPage: ...

The parameters' types are what msgspec can decode; the result is what it can encode. `effect` says whether the
operation changes anything; one that reads only can be asked for with GET.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import cached_property
from typing import Any, TypeVar, get_type_hints

import msgspec

from loopwright.core.errors import Invalid

F = TypeVar("F", bound=Callable[..., Any])
_MARK = "__loopwright_operation__"


class Effect(StrEnum):
    READ = "read"
    WRITE = "write"


class Operation:
    """One operation of a service: its name, the permission it needs, its parameters and its result."""

    def __init__(self, name: str, permission: str, effect: Effect, function: Callable[..., Any]) -> None:
        self.name, self.permission, self.effect, self.function = name, permission, effect, function
        self.room, self.verb = name.split(".", 1)
        self.summary = (inspect.getdoc(function) or "").split("\n", 1)[0]
        self.method = function.__name__

    @cached_property
    def request_type(self) -> type[msgspec.Struct]:
        """A struct with one field per parameter; unknown fields are refused."""
        fields: list[Any] = []
        for parameter, kind in self._parameters():
            if parameter.default is inspect.Parameter.empty:
                fields.append((parameter.name, kind))
            else:
                fields.append((parameter.name, kind, parameter.default))
        title = "".join(part.title() for part in self.name.replace("_", ".").split(".")) + "Request"
        return msgspec.defstruct(title, fields, kw_only=True, forbid_unknown_fields=True, frozen=True)

    @cached_property
    def result_type(self) -> Any:
        """The annotated type of the result."""
        return get_type_hints(self.function, include_extras=True).get("return", Any)

    def _parameters(self) -> Iterator[tuple[inspect.Parameter, Any]]:
        hints = get_type_hints(self.function, include_extras=True)
        for parameter in list(inspect.signature(self.function).parameters.values())[1:]:
            yield parameter, hints[parameter.name]

    def call(self, service: Any, request: msgspec.Struct) -> Any:
        """Call the operation on its service with a decoded request."""
        values = {name: getattr(request, name) for name in request.__struct_fields__}
        return getattr(service, self.method)(**values)


def operation(name: str, *, permission: str, effect: Effect | str = Effect.READ) -> Callable[[F], F]:
    """Declare a method to be an operation.

    Args:
        name: `room.verb`, such as `runs.search`.
        permission: `room:read`, `room:write` or `room:admin`.
        effect: `read` (default) or `write`.

    Raises:
        Invalid: the name or the permission has another form.
    """
    if name.count(".") != 1 or permission.count(":") != 1:
        raise Invalid(
            f"operation {name!r} with permission {permission!r} is malformed",
            next_step="use room.verb and room:read",
        )

    def decorate(function: F) -> F:
        setattr(function, _MARK, Operation(name, permission, Effect(effect), function))
        return function

    return decorate


def operations_of(service_type: type) -> list[Operation]:
    """The operations that a service declares, by name."""
    found = (getattr(member, _MARK, None) for _, member in inspect.getmembers(service_type, inspect.isfunction))
    return sorted((item for item in found if item is not None), key=lambda item: item.name)
