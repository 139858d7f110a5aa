"""Models on the command line."""

from __future__ import annotations

from pathlib import Path

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


@command("predict")
@click.argument("ref")
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Write a CSV or Parquet file instead of stdout.")
def predict(session: Session, ref: str, source: Path, output: Path | None) -> None:
    """A version's answers for the rows of a CSV or Parquet file."""
    import polars as pl

    frame = pl.read_parquet(source) if source.suffix == ".parquet" else pl.read_csv(source)
    answers = session.ws.models.predict(ref, frame)
    if output is None:
        session.emit(answers.to_dicts())
    elif output.suffix == ".parquet":
        answers.write_parquet(output)
    else:
        answers.write_csv(output)


for made in (log, show, predict, *COMMANDS):
    models.add_command(made)
