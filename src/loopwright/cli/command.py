"""What every command shares: `--workspace`, `--json`, opening the workspace, printing a result."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import update_wrapper
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import msgspec

    from loopwright.core import Operation

WORKSPACE = click.Option(
    ["--workspace", "-w"],
    metavar="DIR|URL",
    envvar="LOOPWRIGHT_WORKSPACE",
    help="The workspace: a folder or a server's address. Default: the nearest loopwright.toml upwards, else here.",
)
PROJECT = click.Option(["--project"], metavar="NAME", help="The project inside the workspace.")
JSON = click.Option(["--json", "as_json"], is_flag=True, help="Print the result as JSON, and nothing else.")


class Session:
    """One invocation: the workspace it works on (opened when it is first used) and how it prints."""

    def __init__(self, workspace: str | None, project: str | None, as_json: bool) -> None:
        self.where, self.project, self.as_json = workspace, project, as_json
        self._stack = ExitStack()
        self._opened: Any = None
        # Set once the workspace did not answer and the spools of this machine did.
        self.offline: Any = None

    @property
    def ws(self) -> Any:
        """The workspace, local or remote."""
        if self._opened is None:
            from loopwright.server import connect

            self._opened = self._stack.enter_context(connect(self.where, project=self.project))
            self._stack.enter_context(self.progress())
        return self._opened

    def ask(self, operation: Operation, request: msgspec.Struct) -> Any:
        """Ask an operation of the workspace; where its server does not answer, what this machine's spools hold."""
        from loopwright.cli.offline import can_answer

        if not can_answer(operation):
            return self.ws.call(operation, request)
        return self._or_offline(lambda: self.ws.call(operation, request), lambda runs: operation.call(runs, request))

    def ask_runs(self, question: Callable[[Any], Any]) -> Any:
        """What the workspace's runs answer; where its server does not answer, what this machine's spools hold."""
        return self._or_offline(lambda: question(self.ws.runs), question)

    def _or_offline(self, ask: Callable[[], Any], ask_offline: Callable[[Any], Any]) -> Any:
        from loopwright.core import NotFound, Unavailable

        if self.offline is not None:
            return ask_offline(self.offline)
        try:
            return ask()
        except Unavailable as error:
            from loopwright.cli.offline import offline_runs

            runs = offline_runs(self.where, self.project)
            try:
                found = ask_offline(runs)
            except NotFound:
                raise error from None
            self.offline = runs
            self.say(f"{error}; this is what waits on this machine")
            return found

    def progress(self) -> Any:
        """Within this context long work shows its progress on stderr, where that is a terminal."""
        from loopwright.cli.progress import on_stderr

        return on_stderr()

    def emit(self, value: Any, *, columns: Iterable[str] = (), title: str = "") -> None:
        """Print a result: JSON as the API gives it, or a table for people."""
        if self.as_json:
            from loopwright.cli.render import write_json

            write_json(value)
        else:
            from loopwright.cli.render import show

            show(value, columns=tuple(columns), title=title)

    def say(self, message: str) -> None:
        """Tell the person something that is not the result (stderr)."""
        click.echo(message, err=True)

    def close(self) -> None:
        self._stack.close()


def command(name: str | None = None, **attributes: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """Like `click.command`, with the shared options; the function's first argument is the Session."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        def run(workspace: str | None, project: str | None, as_json: bool, **values: Any) -> Any:
            session = Session(workspace, project, as_json)
            try:
                return function(session, **values)
            finally:
                session.close()

        update_wrapper(run, function)
        made: Any = click.command(name, **attributes)  # click's overloads do not take attributes by mapping
        built: click.Command = made(run)
        built.params.extend([WORKSPACE, PROJECT, JSON])
        return built

    return decorate


def fail_softly(negative: bool) -> int:
    """The exit code of a judgement: 1 when it was negative."""
    sys.stdout.flush()
    return 1 if negative else 0
