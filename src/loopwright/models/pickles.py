"""What a pickle would import and call, found by reading its opcodes. Nothing is unpickled, imported or called.

Strings, tuples and the memo are followed as the unpickler would follow them, so that a name that is put together in
two steps (STACK_GLOBAL with parts from the memo) is seen as well. Everything else stands for itself as a blank.
joblib writes the bytes of arrays into the middle of a pickle; they are stepped over by the shape and type that the
pickle states, and those of objects are read as the pickles that they are.
"""

from __future__ import annotations

import pickletools
import re
from collections.abc import Callable
from typing import Any, BinaryIO

import msgspec

MAX_OPCODES = 20_000_000
MAX_ARGUMENT_BYTES = 16 << 20
_MAX_MEMO = 5_000_000
_MAX_NESTED = 32
_ARRAY = re.compile(r"[<>|=]?([biufcmM])([1-9][0-9]{0,2})")
_WIDE_ARRAY = re.compile(r"[<>|=]?([SUV])([1-9][0-9]{0,7})")
_WRAPPERS = {("joblib.numpy_pickle", "NumpyArrayWrapper")}
_CALLS = {"REDUCE", "NEWOBJ", "NEWOBJ_EX", "OBJ", "INST"}


class Used(msgspec.Struct, frozen=True, order=True):
    """A name that a pickle takes from a module. `hidden` where only running it would tell which."""

    module: str
    name: str
    hidden: bool = False

    def __str__(self) -> str:
        return "a name that it puts together while it is loaded" if self.hidden else f"{self.module}.{self.name}"


class Reading(msgspec.Struct, frozen=True):
    """What was found in a run of pickles that follow each other.

    Attributes:
        pickles: how many ended as they should.
        used: the names that they take from modules.
        calls: how often one of them would be called, or an object made.
        fault: why the last one could not be read to its end; empty where all were.
    """

    pickles: int
    used: frozenset[Used]
    calls: int
    fault: str = ""


class _Fault(Exception):
    """The bytes are no pickle from here on."""


class _Far(bytes):
    """Bytes that were stepped over: they have a length and nothing else."""

    size = 0

    def __len__(self) -> int:
        return self.size


class _Bounded:
    """A stream of which a pickle's steps read at most MAX_ARGUMENT_BYTES at once; longer ones are stepped over."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, here = stream, stream.tell()
        self._end = stream.seek(0, 2)
        stream.seek(here)

    def read(self, size: int) -> bytes:
        if size <= MAX_ARGUMENT_BYTES:
            return self._stream.read(size)
        if self._stream.tell() + size > self._end:
            return b""  # the reader of opcodes takes it for the cut that it is
        self._stream.seek(size, 1)
        found = _Far()
        found.size = size
        return found

    def readline(self) -> bytes:
        return self._stream.readline(MAX_ARGUMENT_BYTES)

    def tell(self) -> int:
        return self._stream.tell()


class _Made:
    """An object that a pickle would make: which name it calls, and with what."""

    __slots__ = ("arguments", "of")

    def __init__(self, of: Any, arguments: Any) -> None:
        self.of, self.arguments = of, arguments


_MARK = object()
_BLANK = object()


def read_pickles(stream: BinaryIO) -> Reading:
    """Read the pickles that stand one behind the other in a stream, from where it stands.

    The stream must be able to seek. Bytes that are no pickle end the reading; `fault` says so unless a whole pickle
    came before them that took nothing from any module (as in PyTorch's old format, where weights follow).
    """
    reader = _Reader(stream)
    pickles, fault = 0, ""
    try:
        while reader.more():
            reader.one()
            pickles += 1
    except _Fault as error:
        fault = str(error)
    return Reading(pickles, frozenset(reader.used), reader.calls, fault)


class _Reader:
    """Follows the opcodes of pickles in one stream."""

    def __init__(self, stream: BinaryIO, depth: int = 0) -> None:
        self._stream, self._depth = stream, depth
        self.used: set[Used] = set()
        self.calls = self._opcodes = 0
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def more(self) -> bool:
        """Whether bytes are left."""
        found = self._stream.read(1)
        self._stream.seek(-len(found), 1)
        return bool(found)

    def one(self) -> Any:
        """Read one pickle to its STOP; what it would make."""
        self._stack, self._memo = [], {}
        before = self.calls + len(self.used)
        try:
            for opcode, argument, _ in pickletools.genops(_Bounded(self._stream)):  # type: ignore[arg-type]  # all it calls
                self._opcodes += 1
                if self._opcodes > MAX_OPCODES or len(self._memo) > _MAX_MEMO:
                    raise _Fault(f"it has more than {MAX_OPCODES:,} steps")
                self._step(opcode, argument)
        except (ValueError, IndexError, KeyError, TypeError, AttributeError, UnicodeError, OverflowError) as error:
            seen = self.calls + len(self.used) > before
            raise _Fault(
                f"it cannot be read to its end{' though it takes names from modules' if seen else ''}: {error}"
            ) from error
        return self._stack[-1] if self._stack else _BLANK

    def _step(self, opcode: Any, argument: Any) -> None:
        name = opcode.name
        special = _STEPS.get(name)
        if name in _CALLS:
            self.calls += 1
        if special is not None:
            special(self, argument)
        elif not opcode.stack_before and len(opcode.stack_after) == 1:
            self._stack.append(argument if isinstance(argument, str | int) else _BLANK)
        else:
            self._generic(opcode)

    def _generic(self, opcode: Any) -> None:
        """An opcode of no interest: it takes and gives as many as its description says."""
        before = list(opcode.stack_before)
        if pickletools.markobject in before:
            self._to_mark()
            before = before[: before.index(pickletools.markobject)]
        for _ in before:
            self._stack.pop()
        self._stack.extend(_BLANK for _ in opcode.stack_after)

    def _to_mark(self) -> list[Any]:
        items: list[Any] = []
        while (item := self._stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def _use(self, module: Any, name: Any) -> None:
        known = isinstance(module, str) and isinstance(name, str)
        found = Used(module, name) if known else Used("", "", hidden=True)
        self.used.add(found)
        self._stack.append(found)

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._use(module, name)

    def _stack_global(self, _: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._use(module, name)

    def _extension(self, argument: int) -> None:
        self._use(None, argument)

    def _inst(self, argument: str) -> None:
        arguments = self._to_mark()
        self._global(argument)
        self._stack.append(_Made(self._stack.pop(), arguments))

    def _obj(self, _: Any) -> None:
        of, *arguments = self._to_mark()
        self._stack.append(_Made(of, arguments))

    def _call(self, _: Any) -> None:
        arguments, of = self._stack.pop(), self._stack.pop()
        self._stack.append(_Made(of, arguments))

    def _call_with_names(self, _: Any) -> None:
        self._stack.pop()
        self._call(None)

    def _build(self, _: Any) -> None:
        state = self._stack.pop()
        made = self._stack[-1]
        if isinstance(made, _Made) and isinstance(made.of, Used) and (made.of.module, made.of.name) in _WRAPPERS:
            self._array(state)

    def _array(self, state: Any) -> None:
        """Step over an array that joblib wrote here.

        Whether joblib takes what stands here for numbers or for a pickle hangs on flags of the type that a pickle can
        set at will; so whatever reads as a pickle here counts as one, too.
        """
        if not isinstance(state, dict):
            raise _Fault("an array of joblib does not say its shape")
        size, width = _items(state.get("shape")), _element(state.get("dtype"))
        here = self._stream.tell()
        fault = self._nested()
        if width is None:
            if fault:
                raise _Fault(fault)
            return
        self._stream.seek(here)
        if isinstance(state.get("numpy_array_alignment_bytes"), int):
            here += 1 + self._stream.read(1)[0]
        if here + size * width > self._stream.seek(0, 2):
            raise _Fault("an array of joblib is larger than the file")
        self._stream.seek(here + size * width)

    def _nested(self) -> str:
        """Read the pickle that may stand here; why it is none."""
        if self._depth >= _MAX_NESTED:
            raise _Fault("pickles are nested too deep")
        inner = _Reader(self._stream, self._depth + 1)
        try:
            inner.one()
        except _Fault as error:
            return str(error)
        finally:
            self.used |= inner.used
            self.calls += inner.calls
        return ""

    def _mark(self, _: Any) -> None:
        self._stack.append(_MARK)

    def _pop(self, _: Any) -> None:
        self._stack.pop()

    def _pop_mark(self, _: Any) -> None:
        self._to_mark()

    def _dup(self, _: Any) -> None:
        self._stack.append(self._stack[-1])

    def _tuple(self, _: Any) -> None:
        self._stack.append(tuple(self._to_mark()))

    def _dict(self, _: Any) -> None:
        self._stack.append(_pairs(self._to_mark()))

    def _empty_dict(self, _: Any) -> None:
        self._stack.append({})

    def _set_item(self, _: Any) -> None:
        value, key, into = self._stack.pop(), self._stack.pop(), self._stack[-1]
        if isinstance(into, dict) and isinstance(key, str | int):
            into[key] = value

    def _set_items(self, _: Any) -> None:
        found = _pairs(self._to_mark())
        if isinstance(self._stack[-1], dict):
            self._stack[-1].update(found)

    def _put(self, argument: Any) -> None:
        self._memo[int(argument)] = self._stack[-1]

    def _memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _get(self, argument: Any) -> None:
        self._stack.append(self._memo[int(argument)])


def _take(count: int) -> Callable[[_Reader, Any], None]:
    def run(reader: _Reader, _: Any) -> None:
        items = tuple(reader._stack[-count:])
        if len(items) < count:
            raise _Fault("it takes more than it has")
        del reader._stack[-count:]
        reader._stack.append(items)

    return run


_STEPS: dict[str, Callable[[_Reader, Any], None]] = {
    "GLOBAL": _Reader._global,
    "STACK_GLOBAL": _Reader._stack_global,
    "EXT1": _Reader._extension,
    "EXT2": _Reader._extension,
    "EXT4": _Reader._extension,
    "INST": _Reader._inst,
    "OBJ": _Reader._obj,
    "REDUCE": _Reader._call,
    "NEWOBJ": _Reader._call,
    "NEWOBJ_EX": _Reader._call_with_names,
    "BUILD": _Reader._build,
    "MARK": _Reader._mark,
    "POP": _Reader._pop,
    "POP_MARK": _Reader._pop_mark,
    "DUP": _Reader._dup,
    "TUPLE": _Reader._tuple,
    "TUPLE1": _take(1),
    "TUPLE2": _take(2),
    "TUPLE3": _take(3),
    "DICT": _Reader._dict,
    "EMPTY_DICT": _Reader._empty_dict,
    "SETITEM": _Reader._set_item,
    "SETITEMS": _Reader._set_items,
    "PUT": _Reader._put,
    "BINPUT": _Reader._put,
    "LONG_BINPUT": _Reader._put,
    "MEMOIZE": _Reader._memoize,
    "GET": _Reader._get,
    "BINGET": _Reader._get,
    "LONG_BINGET": _Reader._get,
}


def _pairs(items: list[Any]) -> dict[Any, Any]:
    keys, values = items[::2], items[1::2]
    return {key: value for key, value in zip(keys, values, strict=True) if isinstance(key, str | int)}


def _items(shape: Any) -> int:
    """How many items an array of that shape has."""
    if not isinstance(shape, tuple) or not all(type(size) is int and 0 <= size < 1 << 48 for size in shape):
        raise _Fault("an array of joblib has no plain shape")
    total = 1
    for size in shape:
        total *= size
    return total


def _element(dtype: Any) -> int | None:
    """The bytes of one item of an array; None where the items are objects."""
    given = dtype.arguments[0] if isinstance(dtype, _Made) and isinstance(dtype.arguments, tuple) else None
    if not isinstance(given, str):
        raise _Fault("an array of joblib has no plain type")
    if match := _ARRAY.fullmatch(given):
        return int(match[2])
    if match := _WIDE_ARRAY.fullmatch(given):
        return int(match[2]) * (4 if match[1] == "U" else 1)
    if given.lstrip("<>|=").startswith("O"):
        return None
    raise _Fault(f"an array of joblib has the type {given[:40]!r}")
