"""Models on the command line."""

from __future__ import annotations

import click

from loopwright.cli.bundles import COMMANDS
from loopwright.cli.command import Session, command
from loopwright.cli.derived import DerivedGroup
from loopwright.cli.inspection import short_version, whole_version

models = DerivedGroup(
    "models",
    ["models"],
    "Models: versions, aliases, cards, bundles.",
    hidden_verbs=["versions", "signatures", "add_signature"],
)


@command("log")
@click.argument("name")
@click.option("--limit", default=20, metavar="N", help="At most so many versions.")
def log(session: Session, name: str, limit: int) -> None:
    """The versions of a model, newest first."""
    found = session.ws.models.versions(name, limit=limit)
    session.emit(found if session.as_json else [short_version(item) for item in found])


@command("show")
@click.argument("ref")
def show(session: Session, ref: str) -> None:
    """One version: what it is, who signed it, whether it can run code."""
    found = session.ws.models.get(ref)
    session.emit(found if session.as_json else whole_version(found))


for made in (log, show, *COMMANDS):
    models.add_command(made)
