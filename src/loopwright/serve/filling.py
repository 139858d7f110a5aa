"""Rows for an endpoint from what a request brings and what is looked up for it.

The variants of an endpoint may look features up by different definitions, as a canary does whose features were
changed: each of them then has rows of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core import DType, Invalid, LoopwrightError, NotFound
from loopwright.models import Signature
from loopwright.serve.describing import versions_of
from loopwright.serve.feature_reads import FeatureReads
from loopwright.serve.intake import Intake, Rows
from loopwright.serve.loaded import LoadedEndpoint, LoadedVariant

if TYPE_CHECKING:
    from loopwright.features import LookupReader

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBERS = (DType.FLOAT32, DType.FLOAT64, DType.INT64)
Given = Mapping[str, Sequence[Any]]


class Filled(msgspec.Struct, frozen=True):
    """Rows as the endpoint's intake makes them, and those of single variants where these differ (see Query.own)."""

    rows: Any
    own: dict[Any, Any] | None = None


def looked_up(endpoint: LoadedEndpoint) -> frozenset[str]:
    """The inputs that are looked up for an endpoint: those of any variant."""
    held: frozenset[str] | None = endpoint.notes.get(looked_up)
    if held is None:
        readers = [one.reader for one in endpoint.variants if one.reader is not None]
        gives = {name for reader in readers for name in reader.lookup.columns}
        held = endpoint.notes[looked_up] = frozenset(gives & set(endpoint.intake.names))
    return held


def needs_lookup(endpoint: LoadedEndpoint, columns: Given, says_keys: bool) -> bool:
    """Whether a request that brings these columns leaves inputs to be looked up.

    Raises:
        Invalid: it brings keys, and the model's bundle says not how features are found.
    """
    looked = looked_up(endpoint)
    if says_keys and not looked:
        raise Invalid(
            f"the model of endpoint {endpoint.spec.name!r} brings no feature lookup",
            next_step="send its inputs, or build its bundle with features=",
        )
    return says_keys or bool(looked - columns.keys())


def brought(endpoint: LoadedEndpoint) -> list[str]:
    """The columns that a request brings: what lookups need, and the inputs that are not looked up."""
    needed = [name for reader in _readers(endpoint.variants) for name in reader.request]
    rest = [name for name in endpoint.intake.names if name not in looked_up(endpoint)]
    return list(dict.fromkeys([*needed, *rest]))


def described(endpoint: LoadedEndpoint) -> dict[str, Any]:
    """What a request brings, what is looked up for it, and by which definitions."""
    types = {name: str(dtype) for reader in _readers(endpoint.variants) for name, dtype in reader.request.items()}
    words = {column.name: column.dtype.value for column in endpoint.intake.columns}
    views = {(view.ref, view.digest): view for one in _readers(endpoint.variants) for view in one.lookup.views}
    return {
        "name": endpoint.spec.name,
        "versions": versions_of(endpoint),
        "brings": [{"name": name, "type": types.get(name) or words[name]} for name in brought(endpoint)],
        "inputs": [{"name": name, "type": word} for name, word in words.items()],
        "features": [
            {
                "view": view.ref,
                "digest": view.digest,
                "keys": view.body.get("keys", []),
                "columns": [column for _, column in view.columns],
                "ttl_s": view.body.get("ttl_s"),
                "required": view.body.get("required", False),
            }
            for view in views.values()
        ],
    }


async def fill(
    reads: FeatureReads,
    endpoint: LoadedEndpoint,
    given: Given,
    count: int,
    event_times: Sequence[int] | None,
    deadline_ns: int = 0,
) -> Filled:
    """The rows for what a request brings.

    Args:
        given: `count` values of each column.
        event_times: when each row happened, in microseconds since 1970; None for now. Features are those of then, as
            far as the online store still has them.
        deadline_ns: until when the caller waits, on the monotonic clock; 0 for no limit of his.

    Raises:
        Invalid: a column is unknown, missing, or does not fit.
        NotFound: nothing is known of an entity that is required, by its view or by a model that knows no missing value.
        Unavailable: the online store does not answer.
    """
    _refuse_strange(endpoint, given)
    moments = _moments(count, event_times)
    readers = _readers(endpoint.variants)
    project = endpoint.spec.project
    found = {
        reader: await reads.read(reader, project, _needed(reader, given), moments, deadline_ns) for reader in readers
    }
    if len(readers) == 1 and all(one.reader is not None for one in endpoint.variants):
        return Filled(_rows(endpoint.intake, endpoint.live[0], given, found[readers[0]]))
    alike = {reader.lookup.digest: columns for reader, columns in found.items()}
    own: dict[LoadedVariant, Rows | LoopwrightError] = {}
    for one in endpoint.variants:
        columns = {} if one.reader is None else alike[one.reader.lookup.digest]
        try:
            own[one] = _rows(Intake([one.predictor.signature]), one, given, columns)
        except LoopwrightError as error:  # told if this variant answers
            own[one] = error
    return Filled(next((rows for rows in own.values() if not isinstance(rows, LoopwrightError)), [[]] * count), own)


def _readers(variants: Iterable[LoadedVariant]) -> list[LookupReader]:
    """One reader of each lookup."""
    found = {one.reader.lookup.digest: one.reader for one in variants if one.reader is not None}
    return list(found.values())


def _rows(intake: Intake, loaded: LoadedVariant, given: Given, found: Given) -> Rows:
    numeric = _numeric(loaded.predictor.signature)
    _refuse_missing(loaded, given, found)
    columns = {**given, **{name: _plain(found[name]) if name in numeric else found[name] for name in found}}
    return intake.rows([(name, columns[name]) for name in intake.names if name in columns])


def _refuse_missing(loaded: LoadedVariant, given: Given, found: Given) -> None:
    """Refuse a feature that is missing where training never saw it missing; the entity's key is named.

    Raises:
        NotFound: an entity's feature is.
        Invalid: what is computed of the request's values is.
    """
    for item in loaded.predictor.signature.inputs:
        values = found.get(item.name, ())
        if item.nullable or None not in values or loaded.reader is None:
            continue
        row = values.index(None)
        keys = next(
            view.body.get("keys") for view in loaded.reader.lookup.views if item.name in dict(view.columns).values()
        )
        told = ", ".join(f"{key}={given[key][row]!r}" for key in keys or loaded.reader.request if key in given)
        raise (NotFound if keys else Invalid)(
            f"feature {item.name!r} of {told} (row {row}) is missing, and training never saw it missing",
            next_step="check the key; or give the view defaults=, or the bundle nullable=",
        )


def _numeric(signature: Signature) -> set[str]:
    return {item.name for item in signature.inputs if item.dtype in _NUMBERS}


def _plain(values: Sequence[Any]) -> Sequence[Any]:
    """Values for an input that takes numbers, as a cast in training makes them of a feature that is none."""
    kinds = set(map(type, values))
    if bool in kinds or Decimal in kinds:
        turn = {bool: int, Decimal: float}
        return [turn[type(value)](value) if type(value) in turn else value for value in values]
    return values


def _needed(reader: LookupReader, given: Given) -> Given:
    return {name: given[name] for name in reader.request if name in given}


def _refuse_strange(endpoint: LoadedEndpoint, given: Given) -> None:
    allowed = brought(endpoint)
    for name in given:
        if name in allowed:
            continue
        if name in looked_up(endpoint):
            raise Invalid(
                f"input {name!r} is looked up, and the request brings a value for it",
                next_step=f"send all inputs and no keys, or bring {', '.join(allowed)}",
            )
        raise Invalid(f"there is no input {name!r}", next_step=f"a request brings {', '.join(allowed)}")


def _moments(count: int, event_times: Sequence[int] | None) -> list[datetime]:
    if event_times is None:
        return [datetime.now(UTC)] * count
    try:
        return [_EPOCH + timedelta(microseconds=time) for time in event_times]
    except OverflowError:
        raise Invalid("an event time is beyond the year 9999") from None
