"""Routes derived from operations: POST for each, GET as well for one that reads and takes plain values only."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec
from starlette.datastructures import QueryParams
from starlette.responses import Response

from loopwright.core import Effect, Invalid, Operation
from loopwright.server.route import JSON, Call, RouteSpec
from loopwright.server.services import Services, convert, parse

PREFIX = "/api/v1"
_SCALARS = (
    msgspec.inspect.StrType,
    msgspec.inspect.IntType,
    msgspec.inspect.FloatType,
    msgspec.inspect.BoolType,
    msgspec.inspect.EnumType,
    msgspec.inspect.LiteralType,
    msgspec.inspect.DateTimeType,
    msgspec.inspect.DateType,
    msgspec.inspect.NoneType,
)


def operation_routes(services: Services) -> list[RouteSpec]:
    """The routes of every operation."""
    routes = []
    for operation in services.operations():
        routes.append(_route("POST", operation))
        if is_plain(operation):
            routes.append(_route("GET", operation))
    return routes


def path_of(operation: Operation) -> str:
    """Where an operation is asked for."""
    return f"{PREFIX}/{operation.room}/{operation.verb}"


@lru_cache(maxsize=1024)
def is_plain(operation: Operation) -> bool:
    """Whether an operation can be asked for with GET: it only reads, and a query string can carry its parameters."""
    return operation.effect is Effect.READ and all(
        is_scalar(field.type) or is_list(field.type) for field in msgspec.structs.fields(operation.request_type)
    )


def is_scalar(kind: Any) -> bool:
    """Whether one text of a query string can carry a value of the type."""
    return _scalar(msgspec.inspect.type_info(kind))


def is_list(kind: Any) -> bool:
    """Whether repeated texts of a query string can carry a value of the type."""
    info = msgspec.inspect.type_info(kind)
    kinds = info.types if isinstance(info, msgspec.inspect.UnionType) else (info,)
    lists = [item for item in kinds if isinstance(item, msgspec.inspect.VarTupleType | msgspec.inspect.ListType)]
    others = [item for item in kinds if not isinstance(item, msgspec.inspect.NoneType)]
    return len(lists) == len(others) == 1 and _scalar(lists[0].item_type)


def _scalar(info: msgspec.inspect.Type) -> bool:
    if isinstance(info, msgspec.inspect.UnionType):
        return all(_scalar(kind) for kind in info.types)
    return isinstance(info, _SCALARS)


def _route(method: str, operation: Operation) -> RouteSpec:
    async def answer(call: Call) -> Response:
        request = _from_query(operation, call) if method == "GET" else parse(operation, call.body)
        result = await call.services.call(operation, call.scope, request)
        return Response(msgspec.json.encode(result), media_type=JSON)

    return RouteSpec(method, path_of(operation), operation.permission, answer, operation=operation)


def _from_query(operation: Operation, call: Call) -> msgspec.Struct:
    return convert(operation, query_values(operation, call.request.query_params), strict=False)


def query_values(operation: Operation, query: QueryParams) -> dict[str, Any]:
    """The values in a query string.

    Raises:
        Invalid: a plain parameter is given twice.
    """
    lists = {field.name for field in msgspec.structs.fields(operation.request_type) if is_list(field.type)}
    values: dict[str, Any] = {}
    for name in query:
        given = query.getlist(name)
        if name not in lists and len(given) > 1:
            raise Invalid(f"{name!r} is given {len(given)} times", where=operation.name, next_step="give it once")
        values[name] = given if name in lists else given[0]
    return values
