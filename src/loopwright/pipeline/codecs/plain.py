"""Codecs for plain values: JSON, bytes, text that is no JSON, records, files and folders."""

from __future__ import annotations

import json
import math
import shutil
from datetime import date, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from loopwright.core import Corrupt, Invalid
from loopwright.pipeline.codecs.registry import codec

_TIMES = {"datetime": datetime, "date": date}


@codec("json")
class JsonCodec:
    """None, truth values, numbers, texts, lists and mappings with text keys, as they are."""

    def accepts(self, value: Any) -> bool:
        return is_json(value)

    def save(self, value: Any, path: Path) -> None:
        # Python's own JSON, because it keeps NaN and infinities; the order of keys is a part of the value.
        path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")

    def load(self, path: Path) -> Any:
        return json.loads(path.read_text(encoding="utf-8"))


@codec("bytes")
class BytesCodec:
    """Bytes as they are."""

    def accepts(self, value: Any) -> bool:
        return type(value) is bytes

    def save(self, value: bytes, path: Path) -> None:
        path.write_bytes(value)

    def load(self, path: Path) -> bytes:
        return path.read_bytes()


@codec("time")
class TimeCodec:
    """A date or a time, with its zone's offset."""

    def accepts(self, value: Any) -> bool:
        return type(value) in (datetime, date)

    def save(self, value: date, path: Path) -> None:
        path.write_text(f"{type(value).__name__} {value.isoformat()}", encoding="utf-8")

    def load(self, path: Path) -> date:
        kind, _, text = path.read_text(encoding="utf-8").partition(" ")
        return _TIMES[kind].fromisoformat(text)


@codec("struct")
class StructCodec:
    """A msgspec Struct, by the name of its class. Reading imports that class's module and takes only a Struct."""

    def accepts(self, value: Any) -> bool:
        return isinstance(value, msgspec.Struct)

    def save(self, value: msgspec.Struct, path: Path) -> None:
        kind = type(value)
        if "<" in kind.__qualname__ or kind.__module__ == "__main__":
            raise Invalid(f"the class {kind.__qualname__!r} cannot be imported", next_step="define it in a module")
        record = {"class": f"{kind.__module__}:{kind.__qualname__}", "value": value}
        path.write_bytes(msgspec.json.encode(record, order="deterministic"))

    def load(self, path: Path) -> Any:
        record = msgspec.json.decode(path.read_bytes(), type=dict[str, msgspec.Raw])
        return msgspec.json.decode(record["value"], type=_struct_class(msgspec.json.decode(record["class"], type=str)))


@codec("folder")
class FolderCodec:
    """The content of a file or folder that a step made, given as a Path; the next step gets a Path to a copy."""

    def accepts(self, value: Any) -> bool:
        return isinstance(value, Path)

    def save(self, value: Path, path: Path) -> None:
        if value.is_dir():
            shutil.copytree(value, path, symlinks=False)
            if not any(item.is_file() for item in path.rglob("*")):
                raise Invalid(f"the folder {value} holds no file")
        elif value.is_file():
            path.mkdir()
            shutil.copyfile(value, path / value.name)
        else:
            raise Invalid(f"there is no file or folder {value}")

    def load(self, path: Path) -> Path:
        return path


def is_json(value: Any) -> bool:
    """Whether a value is exactly what JSON gives back: no tuple, no subclass."""
    kind = type(value)
    if kind is dict:
        return all(type(key) is str for key in value) and all(is_json(item) for item in value.values())
    if kind is list:
        return all(is_json(item) for item in value)
    return value is None or kind in (bool, int, float, str)


def is_finite_json(value: Any) -> bool:
    """Whether a value can stand in standard JSON as it is."""
    if isinstance(value, dict):
        return all(is_finite_json(item) for item in value.values())
    if isinstance(value, list):
        return all(is_finite_json(item) for item in value)
    return not isinstance(value, float) or math.isfinite(value)


def _struct_class(name: str) -> type[msgspec.Struct]:
    module, _, qualname = name.partition(":")
    found: Any = import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    if not (isinstance(found, type) and issubclass(found, msgspec.Struct)):
        raise Corrupt(f"{name!r} is no record type", next_step="run the step again with --no-cache")
    return found
