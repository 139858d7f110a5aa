"""Plain commands, derived from the operations of a service: one command per operation.

Required parameters are arguments, the others options; what is no scalar is given as JSON, or as @FILE with JSON in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import msgspec

from loopwright.cli.command import Session, command
from loopwright.core import Invalid, NotFound, Operation

_SCALARS = (msgspec.inspect.StrType, msgspec.inspect.IntType, msgspec.inspect.FloatType)


class DerivedGroup(click.Group):
    """A group whose commands come from the operations of one or more rooms of the API; hand-made ones win."""

    def __init__(self, name: str, rooms: Iterable[str], help: str, hidden_verbs: Iterable[str] = ()) -> None:
        super().__init__(name, help=help)
        self._rooms, self._skipped = tuple(rooms), frozenset(hidden_verbs)
        self._filled = False

    def _fill(self) -> None:
        if self._filled:
            return
        self._filled = True
        from loopwright.workspace import operations_in

        for room in self._rooms:
            for operation in operations_in(room):
                name = operation.verb.replace("_", "-")
                if name not in self.commands and operation.verb not in self._skipped:
                    self.add_command(derive(operation), name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        self._fill()
        return sorted(self.commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self.commands:
            return self.commands[cmd_name]
        self._fill()
        return self.commands.get(cmd_name)


def derive(operation: Operation) -> click.Command:
    """The command for an operation."""
    fields = msgspec.structs.fields(operation.request_type)

    @command(operation.verb.replace("_", "-"), help=operation.summary)
    def run(session: Session, **values: Any) -> None:
        request = _request(operation, {name: value for name, value in values.items() if value is not None})
        session.emit(session.ask(operation, request))

    run.params[:0] = [_parameter(field) for field in fields]
    return run


def _parameter(field: msgspec.structs.FieldInfo) -> click.Parameter:
    kind = msgspec.inspect.type_info(field.type)
    scalar = isinstance(kind, _SCALARS)
    if field.required:
        return click.Argument([field.name], metavar=field.name.upper() + ("" if scalar else "(JSON)"))
    flag = "--" + field.name.replace("_", "-")
    if isinstance(kind, msgspec.inspect.BoolType):
        return click.Option([f"{flag}/--no-{flag[2:]}", field.name], default=None)
    return click.Option([flag, field.name], metavar="VALUE" if scalar else "JSON", default=None)


def _request(operation: Operation, values: dict[str, Any]) -> msgspec.Struct:
    parsed = {}
    for field in msgspec.structs.fields(operation.request_type):
        if field.name in values:
            parsed[field.name] = _value(field, values[field.name])
    try:
        return msgspec.convert(parsed, operation.request_type, strict=False)
    except msgspec.ValidationError as error:
        raise Invalid(
            str(error), where=operation.name, next_step=f"loopwright {operation.room} {operation.verb} --help"
        ) from None


def _value(field: msgspec.structs.FieldInfo, given: Any) -> Any:
    if not isinstance(given, str) or isinstance(msgspec.inspect.type_info(field.type), _SCALARS):
        return given
    text = read_text(Path(given[1:]), field.name) if given.startswith("@") else given
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def read_text(path: Path, parameter: str) -> str:
    """The text of a file that somebody named.

    Raises:
        NotFound: there is none.
        Invalid: it is no text in UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFound(
            f"there is no file {str(path)!r}", where=parameter, next_step="give the path of a JSON file behind the @"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(
            f"the file {str(path)!r} cannot be read: {error}", where=parameter, next_step="give a readable UTF-8 file"
        ) from None


features = DerivedGroup("features", ["features"], "Feature views: list, materialise, read online.")
endpoints = DerivedGroup("endpoints", ["endpoints"], "Endpoints: create, traffic, roll back.")
rollouts = DerivedGroup("rollouts", ["rollouts"], "Rollouts: list, show, take back.")
approvals = DerivedGroup("approvals", ["approvals"], "Approvals: list, grant, deny.")
monitors = DerivedGroup("monitors", ["monitors"], "Monitors: declare, windows, alerts.")
tokens = DerivedGroup("tokens", ["tokens"], "Access tokens: create, list, revoke.")
webhooks = DerivedGroup("webhooks", ["webhooks"], "Webhooks: tell other systems what happens.")
traces = DerivedGroup(
    "traces",
    ["traces"],
    "Traces of requests: search, get, spans, assess.",
    hidden_verbs=["record", "record_spans", "get_many"],
)
