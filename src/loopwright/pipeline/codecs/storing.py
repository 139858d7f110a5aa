"""Values to objects and back: the first codec that accepts a value writes it; lists and mappings are taken apart."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from loopwright.core import Invalid, decode, digest_value, new_id
from loopwright.pipeline.codecs.plain import is_finite_json
from loopwright.pipeline.codecs.registry import Codec, codecs
from loopwright.pipeline.model import Stored
from loopwright.store import ObjectStore, checkout, put_tree

_BUILT_IN = ("plain", "tables", "estimators")
_INLINE_BYTES = 1 << 20
_COMPOSITES: dict[str, type[Any]] = {"list": list, "tuple": tuple, "dict": dict}
_TREE_MARK = "+tree"

for _name in _BUILT_IN:
    import_module(f"loopwright.pipeline.codecs.{_name}")


def dump_value(objects: ObjectStore, value: Any, scratch: Path) -> Stored:
    """Keep a value.

    Args:
        scratch: a folder for temporary files; what is written there is removed again.

    Raises:
        Invalid: no codec can keep the value, or a part of it; the message names where in the value it is.
    """
    return _dump(objects, value, scratch, "the output")


def load_value(objects: ObjectStore, stored: Stored, scratch: Path, path: Sequence[str | int] = ()) -> Any:
    """Read a value, or the part of it at `path`; only the objects of that part are read.

    Raises:
        NotFound: an object is gone.
        Invalid: there is nothing at `path`.
        Corrupt: what is stored does not fit its codec.
    """
    for number, key in enumerate(path):
        if stored.codec not in _COMPOSITES:
            return _selected(_load(objects, stored, scratch), path[number:])
        stored = part_of(stored, key)
    return _load(objects, stored, scratch)


def part_of(stored: Stored, key: str | int) -> Stored:
    """A part of a composite value.

    Raises:
        Invalid: there is no such part.
    """
    found = stored.part(key)
    if found is None:
        known = ", ".join(name for name, _ in stored.parts) or "none"
        raise Invalid(f"the output has no part {key!r}", next_step=f"its parts: {known}")
    return found


def inline_value(objects: ObjectStore, stored: Stored) -> Any:
    """The value itself if it is small and JSON can hold it; else what it is stored as."""
    if stored.codec in _COMPOSITES:
        parts = {key: inline_value(objects, part) for key, part in stored.parts}
        return parts if stored.codec == "dict" else list(parts.values())
    shown = {"codec": stored.codec, "digest": stored.digest, "size_bytes": stored.size_bytes}
    if stored.codec not in ("json", "struct") or stored.size_bytes > _INLINE_BYTES:
        return shown
    if stored.codec == "struct":
        return decode(objects.get(stored.digest))["value"]
    value = json.loads(objects.get(stored.digest))
    return value if is_finite_json(value) else shown


def _dump(objects: ObjectStore, value: Any, scratch: Path, where: str) -> Stored:
    found = _accepting(value)
    if found is not None:
        return _dump_one(objects, *found, value, scratch)
    for name, kind in _COMPOSITES.items():
        if type(value) is kind:
            return _dump_parts(objects, name, value, scratch, where)
    raise Invalid(
        f"{where} is a {type(value).__module__}.{type(value).__qualname__}, which no codec can keep",
        next_step="return a table, an array, a model, a Path, or plain values; or register a codec",
    )


def _dump_parts(objects: ObjectStore, codec: str, value: Any, scratch: Path, where: str) -> Stored:
    items: Mapping[Any, Any] = value if isinstance(value, dict) else dict(enumerate(value))
    if isinstance(value, dict) and not all(isinstance(key, str) for key in value):
        raise Invalid(f"{where} is a mapping with keys that are no texts", next_step="use texts as keys")
    parts = tuple((str(key), _dump(objects, item, scratch, f"{where}[{key!r}]")) for key, item in items.items())
    content = [codec, [[key, part.codec, part.digest] for key, part in parts]]
    return Stored(codec, digest_value(content), sum(part.size_bytes for _, part in parts), parts)


def _dump_one(objects: ObjectStore, name: str, codec: Codec, value: Any, scratch: Path) -> Stored:
    path = scratch / new_id()
    try:
        codec.save(value, path)
        if path.is_dir():
            size = sum(item.stat().st_size for item in path.rglob("*") if item.is_file())
            return Stored(name + _TREE_MARK, put_tree(objects, path), size)
        return Stored(name, objects.put_file(path), path.stat().st_size)
    finally:
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _accepting(value: Any) -> tuple[str, Codec] | None:
    for name in codecs.names():
        codec = codecs.get(name)()
        if codec.accepts(value):
            return name, codec
    return None


def _load(objects: ObjectStore, stored: Stored, scratch: Path) -> Any:
    if stored.codec in _COMPOSITES:
        parts = {key: _load(objects, part, scratch) for key, part in stored.parts}
        return parts if stored.codec == "dict" else _COMPOSITES[stored.codec](parts.values())
    path = scratch / new_id()
    if stored.codec.endswith(_TREE_MARK):
        checkout(objects, stored.digest, path)
    else:
        _copy_out(objects, stored.digest, path)
    return codecs.get(stored.codec.removesuffix(_TREE_MARK))().load(path)


def _copy_out(objects: ObjectStore, digest: str, path: Path) -> None:
    with objects.open(digest) as source, path.open("wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)


def _selected(value: Any, path: Sequence[str | int]) -> Any:
    for key in path:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError) as error:
            raise Invalid(f"the output has no part {key!r}: {type(error).__name__}: {error}") from None
    return value
