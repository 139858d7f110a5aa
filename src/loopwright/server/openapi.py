"""The OpenAPI 3.1 description of the API, generated from the routes."""

from __future__ import annotations

from typing import Any

import msgspec

from loopwright.core import Effect, Invalid, Operation
from loopwright.server.errors import ErrorReply
from loopwright.server.operations import is_list
from loopwright.server.route import JSON, PROJECT_HEADER, RouteSpec

_TEMPLATE = "#/components/schemas/{name}"
_PROJECT = {
    "name": PROJECT_HEADER,
    "in": "header",
    "required": False,
    "description": "The project to act in; the workspace's own if missing.",
    "schema": {"type": "string"},
}


def describe(routes: list[RouteSpec], version: str) -> dict[str, Any]:
    """The description of every route that has an operation.

    Raises:
        Invalid: an operation's parameter or result has a type that JSON cannot carry.
    """
    operations = {route.operation.name: route.operation for route in routes if route.operation is not None}
    schemas, components = _schemas(list(operations.values()))
    paths: dict[str, Any] = {}
    for route in routes:
        if route.operation is not None:
            paths.setdefault(route.path, {})[route.method.lower()] = _entry(route, route.operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Loopwright", "version": version, "summary": "Every operation of a workspace."},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _schemas(operations: list[Operation]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Schemas by key (`error`, `<operation>:request`, `<operation>:result`), and the components that they refer to."""
    kinds: dict[str, Any] = {"error": ErrorReply}
    for operation in operations:
        kinds[f"{operation.name}:request"] = operation.request_type
        kinds[f"{operation.name}:result"] = operation.result_type
    try:
        found, components = msgspec.json.schema_components(list(kinds.values()), ref_template=_TEMPLATE)
    except TypeError as error:
        raise Invalid(f"an operation has a type that JSON cannot carry: {error}") from None
    return dict(zip(kinds, found, strict=True)), components


def _entry(route: RouteSpec, operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    reads = "get_" if route.method == "GET" else ""
    entry: dict[str, Any] = {
        "operationId": reads + operation.name.replace(".", "_"),
        "summary": operation.summary,
        "tags": [operation.room],
        "parameters": [_PROJECT],
        "x-permission": operation.permission,
        "x-effect": str(operation.effect),
        "responses": {
            "200": _body("The result.", schemas[f"{operation.name}:result"]),
            "default": _body("What went wrong, and what to do next.", schemas["error"]),
        },
    }
    if route.method == "GET":
        entry["parameters"] = [_PROJECT, *_parameters(operation)]
    else:
        content = {JSON: {"schema": schemas[f"{operation.name}:request"]}}
        entry["requestBody"] = {"required": _needs_body(operation), "content": content}
        if operation.effect is Effect.WRITE:
            entry["description"] = "Changes the workspace."
    return entry


def _body(text: str, schema: Any) -> dict[str, Any]:
    return {"description": text, "content": {JSON: {"schema": schema}}}


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    found = []
    for field in msgspec.structs.fields(operation.request_type):
        (schema,), _ = msgspec.json.schema_components([field.type], ref_template=_TEMPLATE)
        parameter = {"name": field.name, "in": "query", "required": field.required, "schema": schema}
        if is_list(field.type):
            parameter["explode"] = True
        found.append(parameter)
    return found


def _needs_body(operation: Operation) -> bool:
    return any(field.required for field in msgspec.structs.fields(operation.request_type))
