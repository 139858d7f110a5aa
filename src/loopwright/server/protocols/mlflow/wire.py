"""MLflow's JSON, which is protobuf's JSON mapping: into structs, and back.

A request is decoded straight into its struct, leniently: whole numbers may be texts, and `"NaN"`, `"Infinity"` and
`"-Infinity"` are numbers. Only what does not fit is looked at a second time, as plain values: nulls stand for what is
left out, `run_uuid` for `run_id`, and what is still wrong is told in MLflow's words, which its users know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeVar

import msgspec
from starlette.datastructures import QueryParams
from starlette.responses import Response

from loopwright.core import Invalid
from loopwright.server.route import JSON

R = TypeVar("R", bound="Request")

SEE = "See the API docs for more information about request parameters."
EMPTY = b"{}"


class Request(msgspec.Struct, frozen=True):
    """A request of the protocol. A field without a default must be given, and a text among them may not be empty.

    Fields are looked up by their types, so the types of a request are imported for good, not for checking only.
    """


class Nothing(Request, frozen=True):
    """A request without fields."""


def decode(kind: type[R], body: bytes, named: Mapping[str, str] | None = None) -> R:
    """The request in a JSON body; `named` are fields that stand in the path, which count for more.

    Raises:
        Invalid: a field is missing or does not fit.
    """
    if named:
        values = {**_plain(body), **named}
        try:
            return _complete(msgspec.convert(values, kind, strict=False))
        except msgspec.ValidationError:
            return convert(kind, values)
    try:
        found: R = _decoder(kind).decode(body or EMPTY)
    except (msgspec.ValidationError, msgspec.DecodeError):
        return convert(kind, _plain(body))
    return _complete(found)


def decode_query(kind: type[R], query: QueryParams, named: Mapping[str, str] | None = None) -> R:
    """The request in a query string; `named` are fields that stand in the path.

    Raises:
        Invalid: a field is missing or does not fit.
    """
    repeated = _repeated(kind)
    given = {name: query.getlist(name) if name in repeated else query[name] for name in query}
    return convert(kind, {**given, **(named or {})})


def convert(kind: type[R], values: Mapping[str, Any]) -> R:
    """The request in plain values; see this module's beginning for what is forgiven.

    Raises:
        Invalid: a field is missing or does not fit; the message is MLflow's.
    """
    given = _without_nulls(dict(values))
    if "run_id" not in given and "run_uuid" in given:
        given["run_id"] = given["run_uuid"]
    for field in msgspec.structs.fields(kind):
        if field.required and given.get(field.name, "") == "":
            raise missing(field.name)
        if field.name not in given:
            continue
        try:
            msgspec.convert(given[field.name], field.type, strict=False)
        except msgspec.ValidationError as error:
            raise _unfit(field.name, given[field.name], str(error)) from None
    return _complete(msgspec.convert(given, kind, strict=False))


def missing(name: str) -> Invalid:
    """The error for a field that must be given."""
    return Invalid(f"Missing value for required parameter '{name}'. {SEE}")


def invalid(name: str, value: Any, reason: str = "") -> Invalid:
    """The error for a field's value, in MLflow's words."""
    shown = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    shown = shown if len(shown) <= 200 else f"{shown[:200]}…"
    return Invalid(f"Invalid value {shown} for parameter '{name}' supplied{': ' + reason if reason else '.'}")


def answer(value: object = None) -> Response:
    """The reply that carries a value; by default an empty object."""
    return Response(EMPTY if value is None else msgspec.json.encode(value), media_type=JSON)


@lru_cache(maxsize=256)
def _decoder(kind: type[R]) -> msgspec.json.Decoder[R]:
    return msgspec.json.Decoder(kind, strict=False)


@lru_cache(maxsize=256)
def _repeated(kind: type[Request]) -> frozenset[str]:
    found = {field.name: msgspec.inspect.type_info(field.type) for field in msgspec.structs.fields(kind)}
    lists = (msgspec.inspect.ListType, msgspec.inspect.VarTupleType)
    return frozenset(name for name, info in found.items() if isinstance(info, lists))


@lru_cache(maxsize=256)
def _texts(kind: type[Request]) -> tuple[str, ...]:
    return tuple(field.name for field in msgspec.structs.fields(kind) if field.required and field.type is str)


def _complete(request: R) -> R:
    for name in _texts(type(request)):
        if not getattr(request, name):
            raise missing(name)
    return request


def _plain(body: bytes) -> dict[str, Any]:
    """The object in a body, as Python's own reader sees it: it knows NaN. Old clients encode twice."""
    try:
        found = json.loads(body or EMPTY)
        found = json.loads(found) if isinstance(found, str) else found
    except (ValueError, RecursionError):
        raise Invalid("the body is not JSON", next_step="send a JSON object") from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise Invalid(f"the body is a JSON {type(found).__name__}", next_step="send a JSON object")
    return found


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _unfit(name: str, value: Any, why: str) -> Invalid:
    """MLflow names a missing field of an item by its place, such as `metrics[0].timestamp`."""
    fact, _, place = why.partition(" - at `$")
    if "missing required field" in fact:
        return missing(f"{name}{place.rstrip('`')}.{fact.rpartition('field ')[2].strip('`')}")
    return Invalid(f"{invalid(name, value, f'Hint: Value was of type {type(value).__name__!r}.')} {SEE}")
