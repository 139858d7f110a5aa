"""Loops as people declare them: in Python, or in a YAML file; checked field by field before they are kept."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from loopwright.core import Invalid, check_name
from loopwright.loop.model import AnyTrigger, Every, Loop, Manual, OnAlert, OnNewVersion
from loopwright.loop.triggers import PLACEHOLDERS, unknown_placeholders
from loopwright.release import check_gate, check_guard, check_plan

T = TypeVar("T")

_PIPELINE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_FIELDS = f"the fields of a loop are {', '.join(Loop.__struct_fields__)}"


def on_alert(monitor: str, about: str = "") -> OnAlert:
    """Start when an alert of this monitor opens."""
    return OnAlert(monitor, about)


def every(*, seconds: float = 0.0, hours: float = 0.0, days: float = 0.0) -> Every:
    """Start each time so much workspace time has passed."""
    return Every(seconds + 3600.0 * hours + 86_400.0 * days)


def on_new_version(dataset: str) -> OnNewVersion:
    """Start when the dataset gets a new version."""
    return OnNewVersion(dataset)


def manual() -> Manual:
    """Start only when a person says so."""
    return Manual()


def load_loops(path: str | Path) -> list[Loop]:
    """The loops in a YAML file: one loop, a list of loops, or several documents.

    Raises:
        Invalid: the file cannot be read, is not YAML, or a field is missing, unknown or out of range.
    """
    source = Path(path)
    found = read_documents(path)
    loops = [convert_item(item, Loop, check_loop, "loop", str(source), _FIELDS) for item in found]
    if not loops:
        raise Invalid("declares no loop", where=str(source), next_step=_FIELDS)
    return loops


def read_documents(path: str | Path) -> list[Any]:
    """What a YAML file declares: its documents, and the items of those that are lists.

    Raises:
        Invalid: the file cannot be read, or is not YAML.
    """
    import yaml

    source = Path(path)
    try:
        documents = list(yaml.safe_load_all(source.read_text(encoding="utf-8")))
    except OSError as error:
        raise Invalid(f"cannot be read: {error.strerror or error}", where=str(source)) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Invalid(
            f"not valid YAML: {_one_line(error)}", where=str(source), next_step="use spaces, not tabs"
        ) from None
    found = [item for document in documents for item in (document if isinstance(document, list) else [document])]
    return [item for item in found if item is not None]


def check_loop(loop: Loop) -> Loop:
    """`loop`, if every field of it makes sense.

    Raises:
        Invalid: naming the field, its value and what to write instead.
    """
    where = f"loop {loop.name!r}"
    check_name("loop", loop.name)
    for noun, value in (("endpoint", loop.endpoint), ("model", loop.model), ("output", loop.output)):
        _named(noun, value, f"{where}, field {noun}")
    if not _PIPELINE.fullmatch(loop.pipeline):
        raise Invalid(
            f"{loop.pipeline!r} is not a pipeline", where=f"{where}, field pipeline", next_step="write module:function"
        )
    check_triggers(loop.triggers, where)
    _check_params(loop, where)
    for index, gate in enumerate(loop.gates):
        check_gate(gate, f"{where}, field gates[{index}]")
    check_plan(loop.rollout, f"{where}, field rollout")
    check_guard(loop.guard, f"{where}, field guard")
    _check_numbers(loop, where)
    return loop


def convert_item(item: Any, kind: type[T], check: Callable[[T], T], called: str, source: str, fields: str) -> T:
    """What one document of a file declares, checked.

    Args:
        called: what a declaration of this kind is called in a message.
        fields: what to do about a field that is wrong.

    Raises:
        Invalid: a field is missing, unknown or wrong; it names the file, the declaration and the field.
    """
    name = item.get("name", "") if isinstance(item, dict) else ""
    where = f"{source}, {called} {name!r}" if name else source
    try:
        made = msgspec.convert(item, kind)
    except msgspec.ValidationError as error:
        raise Invalid(str(error), where=where, next_step=fields) from None
    try:
        return check(made)
    except Invalid as error:
        joined = f"{source}: {error.where}" if error.where else source
        raise Invalid(error.message, where=joined, next_step=error.next_step) from None


def check_triggers(triggers: Iterable[AnyTrigger], where: str) -> None:
    """Refuse triggers that can never fire.

    Raises:
        Invalid: naming the trigger's place in `where`.
    """
    for index, trigger in enumerate(triggers):
        place = f"{where}, field triggers[{index}]"
        match trigger:
            case OnAlert(monitor):
                _named("monitor", monitor, place)
            case OnNewVersion(dataset):
                _named("dataset", dataset, place)
            case Every(seconds) if not seconds > 0:
                raise Invalid(f"{seconds:g} seconds is no period", where=place, next_step="write a number above 0")
            case _:
                pass


def _check_params(loop: Loop, where: str) -> None:
    for name, value in loop.params.items():
        _named("parameter", name, f"{where}, field params")
        unknown = unknown_placeholders(value) if isinstance(value, str) else set()
        if unknown:
            raise Invalid(
                f"nobody fills {{{sorted(unknown)[0]}}}",
                where=f"{where}, field params.{name}",
                next_step=f"the placeholders are {', '.join(f'{{{each}}}' for each in sorted(PLACEHOLDERS))}",
            )


def _check_numbers(loop: Loop, where: str) -> None:
    for field, lowest in (
        ("cooldown_s", 0),
        ("max_concurrent", 1),
        ("training_attempts", 1),
        ("training_timeout_s", 1),
    ):
        value = getattr(loop, field)
        if not value >= lowest:
            raise Invalid(f"{value} is too low", where=f"{where}, field {field}", next_step=f"write at least {lowest}")


def _named(noun: str, value: str, where: str) -> None:
    try:
        check_name(noun, value)
    except Invalid as error:
        raise Invalid(error.message, where=where, next_step=error.next_step) from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
