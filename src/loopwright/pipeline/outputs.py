"""What a pipeline hands out, put together from what its steps made. Nothing of the user's code is needed for it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from loopwright.core import Invalid, digest_value
from loopwright.pipeline.arguments import fill
from loopwright.pipeline.model import Argument, Entries, Items, Literal, Ready, Stored
from loopwright.store import ObjectStore


def stored_outputs(
    objects: ObjectStore, wanted: Mapping[str, Argument], made: Mapping[str, Stored]
) -> dict[str, Stored]:
    """What is stored for each output of a graph.

    Raises:
        Invalid: an output selects inside a value that has no parts.
    """
    return {name: _stored(objects, fill(argument, made), name) for name, argument in wanted.items()}


def _stored(objects: ObjectStore, argument: Argument, name: str) -> Stored:
    match argument:
        case Ready(stored, path):
            return _selected(objects, stored, path, name) if path else stored
        case Literal(value):
            return _put_json(objects, value)
        case Items(items):
            return _composite(
                "list", [(str(number), _stored(objects, item, name)) for number, item in enumerate(items)]
            )
        case Entries(entries):
            return _composite("dict", [(key, _stored(objects, item, name)) for key, item in entries.items()])
    raise ValueError(f"output {name!r} is not filled in")


def _selected(objects: ObjectStore, stored: Stored, path: Sequence[str | int], name: str) -> Stored:
    value = json.loads(objects.get(stored.digest)) if stored.codec == "json" else None
    for key in path:
        try:
            value = value[key]  # type: ignore[index]  # what cannot be indexed raises TypeError
        except (KeyError, IndexError, TypeError):
            raise Invalid(
                f"output {name!r} selects {key!r} in a value that has no such part", next_step="select it inside a step"
            ) from None
    return _put_json(objects, value)


def _put_json(objects: ObjectStore, value: Any) -> Stored:
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return Stored("json", objects.put_bytes(data), len(data))


def _composite(codec: str, parts: list[tuple[str, Stored]]) -> Stored:
    content = [codec, [[key, part.codec, part.digest] for key, part in parts]]
    return Stored(codec, digest_value(content), sum(part.size_bytes for _, part in parts), tuple(parts))
