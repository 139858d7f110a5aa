"""`loopwright demo`: the whole loop on real data."""

from __future__ import annotations

import signal
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import click

from loopwright.cli.command import Session, command


@click.group("demo")
def demo() -> None:
    """Close the whole loop on real data."""


@command("flights")
@click.option("--stay/--no-stay", default=None, help="Keep the pages up at the end; by default on a terminal.")
def flights(session: Session, stay: bool | None) -> None:
    """A year of flights from New York: will this flight be late? About three minutes.

    --workspace names the folder to use, which must be new or empty; by default one is made.
    """
    from loopwright.demos import FlightsStory, Narrator, print_ending

    root = _folder(session.where)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the server is stopped with the demo
    narrator = Narrator()
    with session.progress(), FlightsStory(root, narrator) as story:
        summary = story.tell()
        if session.as_json:
            session.emit(summary)
        else:
            print_ending(summary, root)
        if stay if stay is not None else narrator.console.is_terminal and not session.as_json:
            session.say(f"the pages stay up at {summary.url} until Ctrl-C")
            with suppress(KeyboardInterrupt):
                threading.Event().wait()


def _folder(given: str | None) -> Path:
    from loopwright.core import Conflict, Invalid

    if given is None:
        return Path(tempfile.mkdtemp(prefix="loopwright-flights-"))
    if "://" in given:
        raise Invalid(f"{given!r} is a server", next_step="name a new folder")
    root = Path(given).absolute()
    if root.exists() and any(root.iterdir()):
        raise Conflict(f"{root} is not empty", next_step="name a new folder: the demo begins a workspace of its own")
    return root


demo.add_command(flights)
