"""Search spaces: what values a hyperparameter may take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from loopwright.core import Invalid

Scalar = None | bool | int | float | str


class Uniform(msgspec.Struct, frozen=True, tag="uniform"):
    """A number between two others, both included; on a logarithmic scale with `log`."""

    low: float
    high: float
    log: bool = False


class Integer(msgspec.Struct, frozen=True, tag="integer"):
    """A whole number between two others, both included."""

    low: int
    high: int
    log: bool = False
    step: int = 1


class Choice(msgspec.Struct, frozen=True, tag="choice"):
    """One of some values."""

    values: tuple[Scalar, ...]


Space = Uniform | Integer | Choice


def uniform(low: float, high: float, *, log: bool = False) -> Uniform:
    """A number from `low` to `high`.

    Raises:
        Invalid: `low` is not below `high`, or not above 0 on a logarithmic scale.
    """
    _check(low, high, log)
    return Uniform(float(low), float(high), log)


def integer(low: int, high: int, *, log: bool = False, step: int = 1) -> Integer:
    """A whole number from `low` to `high`.

    Raises:
        Invalid: `low` is above `high`, not above 0 on a logarithmic scale, or `step` is below 1 or used with `log`.
    """
    if step < 1 or (log and step != 1):
        raise Invalid(f"a step of {step} cannot be taken", next_step="use 1 or more, and 1 on a logarithmic scale")
    if low != high:
        _check(low, high, log)
    return Integer(low, high, log, step)


def choice(values: Sequence[Scalar]) -> Choice:
    """One of some plain values.

    Raises:
        Invalid: there is none, or one is no plain value.
    """
    if not values or not all(value is None or isinstance(value, bool | int | float | str) for value in values):
        raise Invalid("a choice needs at least one value, each a number, a text, a truth value or none")
    return Choice(tuple(values))


def parse_space(text: str | Mapping[str, Any]) -> dict[str, Space]:
    """Spaces from JSON: `{"lr": {"uniform": [0.01, 0.3], "log": true}, "depth": {"integer": [2, 12]},
    "kind": {"choice": ["a", "b"]}}`.

    Raises:
        Invalid: it is not JSON, or not of this form.
    """
    try:
        found = msgspec.json.decode(text) if isinstance(text, str) else text
    except msgspec.DecodeError as error:
        raise Invalid(f"the space is not JSON: {error}", where="space") from None
    if not isinstance(found, Mapping) or not found:
        raise Invalid("the space names no hyperparameter", where="space", next_step=_FORM)
    return {str(name): _parse_one(str(name), item) for name, item in found.items()}


_FORM = 'write it like {"lr": {"uniform": [0.01, 0.3], "log": true}}'


def _parse_one(name: str, item: Any) -> Space:
    match item:
        case {"uniform": [int() | float() as low, int() | float() as high], **rest} if rest.keys() <= {"log"}:
            return uniform(low, high, log=bool(rest.get("log", False)))
        case {"integer": [int() as low, int() as high], **rest} if rest.keys() <= {"log", "step"}:
            step = rest.get("step", 1)
            return integer(low, high, log=bool(rest.get("log", False)), step=step if isinstance(step, int) else 0)
        case {"choice": list() as values, **rest} if not rest:
            return choice(values)
    raise Invalid(f"the space of {name!r} cannot be read", where=f"space, {name}", next_step=_FORM)


def _check(low: float, high: float, log: bool) -> None:
    if not low < high or (log and low <= 0):
        scale = " on a logarithmic scale" if log else ""
        raise Invalid(f"there is nothing between {low} and {high}{scale}", next_step="give the lower end first")
