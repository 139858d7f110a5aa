"""Messages of a `.proto` file beside this one, made when they are first asked for.

They live in a pool of their own: a program that loads Triton's or TensorFlow's own messages as well meets no clash.
Read is as much of the language as our files use: messages in messages, enums, oneof, map, repeated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from loopwright.core import Invalid

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS: dict[str, int] = {
    name: getattr(_Field, f"TYPE_{name.upper()}")
    for name in ("double", "float", "int64", "uint64", "int32", "bool", "string", "bytes", "uint32")
}
_TOKEN = re.compile(r'"[^"]*"|[\w.]+|[{}=;<>,()]')


@cache
def messages(file: str) -> dict[str, Any]:
    """The message classes of a file, by their names without its package; inner ones as `Outer.Inner`.

    Args:
        file: such as `inference.proto`.
    """
    text = files(__package__).joinpath(file).read_text(encoding="utf-8")
    described = _Reader(file, text).file()
    pool = descriptor_pool.DescriptorPool()
    pool.Add(described)
    prefix = f"{described.package}."
    names = [name for message in described.message_type for name in _names(message)]
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(prefix + name)) for name in names}


def read(kind: Any, data: bytes) -> Any:
    """A message of some bytes.

    Args:
        kind: its class.

    Raises:
        Invalid: they are no such message.
    """
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise Invalid(f"the request is not of the protocol's form: {error}") from None


def _names(message: Any) -> Iterator[str]:
    yield message.name
    for inner in message.nested_type:
        if not inner.options.map_entry:
            yield from (f"{message.name}.{name}" for name in _names(inner))


class _Reader:
    """Reads one file, token by token, into protobuf's own description of it."""

    def __init__(self, name: str, text: str) -> None:
        self._tokens = _TOKEN.findall(re.sub(r"//[^\n]*", "", text))
        self._at = 0
        self._file = descriptor_pb2.FileDescriptorProto(name=name, syntax="proto3")
        self._known: dict[str, int] = {}
        self._open: list[tuple[Any, str, str]] = []  # fields whose type is a name, with that name and their scope

    def file(self) -> Any:
        while self._at < len(self._tokens):
            word = self._next()
            if word == "package":
                self._file.package = self._next()
                self._next(";")
            elif word == "message":
                self._message(self._file.message_type.add(), "")
            elif word == "enum":
                self._enum(self._file.enum_type.add(), "")
            elif word == "service":
                self._skip_block()
            else:  # syntax
                while self._next() != ";":
                    pass
        for field, name, scope in self._open:
            full = self._resolve(name, scope)
            field.type, field.type_name = self._known[full], f".{self._file.package}.{full}"
        return self._file

    def _next(self, expected: str = "") -> str:
        found: str = self._tokens[self._at]
        self._at += 1
        if expected and found != expected:
            raise SyntaxError(f"{self._file.name}: {expected!r} is due where {found!r} stands")
        return found

    def _skip_block(self) -> None:
        while self._next() != "{":
            pass
        while self._next() != "}":
            pass

    def _message(self, message: Any, scope: str) -> None:
        message.name = self._next()
        full = f"{scope}{message.name}"
        self._known[full] = _Field.TYPE_MESSAGE
        self._next("{")
        while (word := self._next()) != "}":
            if word == "message":
                self._message(message.nested_type.add(), f"{full}.")
            elif word == "enum":
                self._enum(message.enum_type.add(), f"{full}.")
            elif word == "oneof":
                message.oneof_decl.add(name=self._next())
                self._next("{")
                while (word := self._next()) != "}":
                    self._field(message, full, word).oneof_index = len(message.oneof_decl) - 1
            elif word == "map":
                self._map(message, full)
            else:
                self._field(message, full, word)

    def _enum(self, enum: Any, scope: str) -> None:
        enum.name = self._next()
        self._known[f"{scope}{enum.name}"] = _Field.TYPE_ENUM
        self._next("{")
        while (word := self._next()) != "}":
            self._next("=")
            enum.value.add(name=word, number=int(self._next()))
            self._next(";")

    def _field(self, message: Any, scope: str, word: str) -> Any:
        repeated = word == "repeated"
        kind = self._next() if repeated else word
        field = message.field.add(name=self._next())
        self._next("=")
        field.number = int(self._next())
        self._next(";")
        field.label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
        self._type(field, kind, scope)
        return field

    def _map(self, message: Any, scope: str) -> None:
        """`map<K, V> name = N;` is a repeated message of a key and a value."""
        self._next("<")
        key = self._next()
        self._next(",")
        value = self._next()
        self._next(">")
        name = self._next()
        entry = message.nested_type.add(name="".join(part.capitalize() for part in name.split("_")) + "Entry")
        entry.options.map_entry = True
        self._known[f"{scope}.{entry.name}"] = _Field.TYPE_MESSAGE
        for number, (part, kind) in enumerate((("key", key), ("value", value)), 1):
            field = entry.field.add(name=part, number=number, label=_Field.LABEL_OPTIONAL)
            self._type(field, kind, scope)
        self._next("=")
        field = message.field.add(name=name, number=int(self._next()), label=_Field.LABEL_REPEATED)
        self._next(";")
        self._type(field, entry.name, scope)

    def _type(self, field: Any, kind: str, scope: str) -> None:
        if kind in _SCALARS:
            field.type = _SCALARS[kind]
        else:
            self._open.append((field, kind, scope))

    def _resolve(self, name: str, scope: str) -> str:
        """The full name of a type, looked for from the inside out."""
        parts = scope.split(".")
        for depth in range(len(parts), -1, -1):
            full = ".".join([*parts[:depth], name])
            if full in self._known:
                return full
        raise SyntaxError(f"{self._file.name}: there is no type {name!r}")
