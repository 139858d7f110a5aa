"""Runs on the command line."""

from __future__ import annotations

import sys

import click

from loopwright.cli.command import Session, command
from loopwright.cli.derived import DerivedGroup

runs = DerivedGroup(
    "runs", ["runs"], "Runs: list, show, compare, pin a baseline.", hidden_verbs=["compare", "log_points", "log_inputs"]
)

experiments = DerivedGroup("experiments", ["experiments"], "Experiments: list, tag, rename, delete, restore.")


@command("list")
@click.option(
    "--filter", "filter_", default="", metavar="TEXT", help="Such as: metrics.auc > 0.8 and params.lr = '0.1'"
)
@click.option("--experiment", default="", metavar="NAME", help="Only runs of this experiment.")
@click.option("--limit", default=30, metavar="N", help="At most so many.")
def list_(session: Session, filter_: str, experiment: str, limit: int) -> None:
    """Runs that match a filter, newest first."""
    found = session.ws.runs.search(filter=filter_, experiment=experiment, limit=limit)
    session.emit(found, columns=("id", "experiment", "name", "status", "started_at", "params", "metrics"))


@command("compare")
@click.argument("runs", nargs=-1, required=True)
@click.option("--all", "everything", is_flag=True, help="Show what is the same, too.")
def compare(session: Session, runs: tuple[str, ...], everything: bool) -> None:
    """Runs beside each other: only what differs, unless --all."""
    comparison = session.ws.runs.compare(list(runs), everything=everything)
    if session.as_json:
        session.emit(comparison)
        return
    from loopwright.cli.comparison import print_comparison

    print_comparison(comparison)


@command("artifact")
@click.argument("run")
@click.argument("path")
def artifact(session: Session, run: str, path: str) -> None:
    """Write a run's artifact to stdout."""
    sys.stdout.buffer.write(session.ws.runs.artifact(run, path))


for made in (list_, compare, artifact):
    runs.add_command(made)
