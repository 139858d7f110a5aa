"""Loops on the command line."""

from __future__ import annotations

from pathlib import Path

import click

from loopwright.cli.command import Session, command
from loopwright.cli.derived import DerivedGroup

loops = DerivedGroup("loops", ["loops"], "Loops: apply, list, trigger, runs.", hidden_verbs=["apply"])


@command("apply")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def apply(session: Session, file: Path) -> None:
    """Declare the loops and monitors that a YAML file holds; what is unchanged stays as it is."""
    from loopwright.loop import load_loops

    session.emit([session.ws.loops.apply(loop) for loop in load_loops(file)])


loops.add_command(apply)
