"""Jobs of batch scoring on the command line."""

from __future__ import annotations

from pathlib import Path

import click

from loopwright.cli.command import Session, command
from loopwright.cli.derived import DerivedGroup

scoring = DerivedGroup(
    "scoring", ["scoring_jobs"], "Batch scoring jobs: apply, list, trigger, runs.", hidden_verbs=["apply"]
)


@command("apply")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def apply(session: Session, file: Path) -> None:
    """Declare the scoring jobs that a YAML file holds; what is unchanged stays as it is."""
    from loopwright.loop import load_scoring_jobs

    session.emit([session.ws.scoring_jobs.apply(job) for job in load_scoring_jobs(file)])


@command("carry-out", hidden=True)
@click.option("--run-id", required=True, metavar="ID")
@click.option("--actor", default="", metavar="REF")
@click.option("--cause", default="", metavar="REF")
def carry_out(session: Session, run_id: str, actor: str, cause: str) -> None:
    """Bring a run that the controller started to its end."""
    from loopwright.core import Scope
    from loopwright.loop import carry_out as carry

    scope = session.ws.scope
    ws = session.ws.scoped(Scope(scope.project, actor or scope.actor, cause or scope.cause))
    session.emit(carry(ws, run_id))


for made in (apply, carry_out):
    scoring.add_command(made)
