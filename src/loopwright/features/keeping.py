"""Definitions as they are kept, and back: expressions as text, a transform by where its code is."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

from loopwright.core import Conflict, Invalid, digest_value
from loopwright.features.definitions import Entity, FeatureView, RequestView

BATCH, REQUEST = "batch", "request"

# Definitions of this process by digest, so that one whose transform cannot be imported works where it was made.
_here: dict[str, FeatureView | RequestView] = {}


def body_of(view: FeatureView | RequestView) -> dict[str, Any]:
    """A definition as JSON values."""
    if isinstance(view, RequestView):
        return {"kind": REQUEST, "features": _pairs(view), "description": view.description}
    missing: dict[str, Any] = {"defaults": view.defaults} if view.defaults else {}
    if view.required:
        missing["required"] = True
    return {
        "kind": BATCH,
        "entity": view.entity.name,
        "keys": list(view.keys),
        "source": view.source,
        "timestamp": view.timestamp,
        "known_at": view.known_at or "",
        "source_timestamp": view.source_timestamp,
        "features": _pairs(view),
        "transform": _place_of(view.transform) if view.transform else "",
        "code": _source_of(view.transform) if view.transform else "",
        "ttl_s": view.ttl.total_seconds() if view.ttl else None,
        "lookback_s": view.lookback.total_seconds() if view.lookback else None,
        "description": view.description,
        **missing,  # only where it is said, so that older definitions keep their digest
    }


def digest_of(view: FeatureView | RequestView) -> str:
    """The digest of what a definition computes; the description does not count, the order of features does."""
    body = body_of(view)
    counted = {name: value for name, value in body.items() if name != "description"}
    digest = digest_value({"name": view.name, **counted})
    _here.setdefault(digest, view)
    return digest


def view_of(name: str, body: dict[str, Any], digest: str, root: Path | None) -> FeatureView | RequestView:
    """The definition behind `body_of`; its transform is imported from the project at `root`, or left out without one.

    Raises:
        Conflict: the transform cannot be imported, or its code changed since the view was applied.
    """
    if digest in _here:
        return _here[digest]
    if body["kind"] == REQUEST:
        view: FeatureView | RequestView = RequestView(name, dict(body["features"]), description=body["description"])
    else:
        wanted = body["transform"] and root is not None
        view = _batch_view(name, body, _imported(name, body["transform"], root) if wanted else None)
        if body["transform"] and not wanted:
            return view
    if digest_of(view) != digest:
        raise Conflict(
            f"the code of {body['transform']}, the transform of feature view {name!r}, changed since it was applied",
            next_step="apply the view again and materialise it",
        )
    return view


def _batch_view(name: str, body: dict[str, Any], transform: Callable[[Any], Any] | None) -> FeatureView:
    return FeatureView(
        name,
        Entity(body["entity"], body["keys"]),
        body["source"],
        body["timestamp"],
        dict(body["features"]),
        transform=transform,
        ttl=_span(body["ttl_s"]),
        known_at=body["known_at"] or None,
        lookback=_span(body["lookback_s"]),
        source_timestamp=body["source_timestamp"],
        defaults=body.get("defaults"),
        required=body.get("required", False),
        description=body["description"],
    )


def _pairs(view: FeatureView | RequestView) -> list[list[str]]:
    # Pairs, not an object: kept JSON has its keys sorted, and online rows rely on the order of features.
    return [[name, text] for name, text in view.features.items()]


def _span(seconds: float | None) -> timedelta | None:
    return timedelta(seconds=seconds) if seconds is not None else None


def _place_of(function: Callable[..., Any]) -> str:
    place = getattr(function, "__qualname__", "")
    if not place:
        raise Invalid(f"{function!r} is no function", next_step="give a plain function as transform=")
    return f"{function.__module__}:{place}"


def _source_of(function: Callable[..., Any]) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        return ""


def _imported(name: str, place: str, root: Path | None) -> Callable[..., Any]:
    module, _, path = place.partition(":")
    if module == "__main__" or "<" in path:
        raise Conflict(
            f"the transform of feature view {name!r} is {place}, which only the process that applied it has",
            next_step="put the function at the top level of a module of the project, and apply the view again",
        )
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    try:
        found: Any = import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise Conflict(
            f"the transform of feature view {name!r} cannot be imported from {place}: {error}",
            next_step=f"run in the project's folder, or apply the view again; looked in {root}",
        ) from None
    function: Callable[..., Any] = found
    return function
