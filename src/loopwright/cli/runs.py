"""Runs on the command line."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from loopwright.cli.command import Session, command
from loopwright.cli.derived import DerivedGroup

if TYPE_CHECKING:
    from loopwright.track import BaselineDelta, Run

runs = DerivedGroup(
    "runs", ["runs"], "Runs: list, show, compare, pin a baseline.", hidden_verbs=["compare", "log_points", "log_inputs"]
)

experiments = DerivedGroup("experiments", ["experiments"], "Experiments: list, tag, rename, delete, restore.")


@command("list")
@click.option(
    "--filter", "filter_", default="", metavar="TEXT", help="Such as: metrics.auc > 0.8 and params.lr = '0.1'"
)
@click.option("--experiment", default="", metavar="NAME", help="Only runs of this experiment.")
@click.option("--order-by", "order_by", multiple=True, metavar="KEY", help="Such as: 'metrics.auc DESC'")
@click.option("--limit", default=30, metavar="N", help="At most so many.")
@click.option("--view", default="active", metavar="VIEW", help="active, deleted or all.")
@click.option("--after", default="", metavar="TOKEN", help="The page token of the page before.")
def list_(
    session: Session, filter_: str, experiment: str, order_by: tuple[str, ...], limit: int, view: str, after: str
) -> None:
    """Runs that match a filter, newest first, with their change against the baseline of their experiment."""
    page = session.ask_runs(
        lambda runs: runs.search_page(
            filter=filter_, experiment=experiment, limit=limit, order_by=order_by, view=view, after=after
        )
    )
    if page.next:
        session.say(f"more: --after {page.next}")
    if session.as_json:
        session.emit(page.runs)
        return
    ids = [run.id for run in page.runs]
    deltas = {found.run: found for found in session.ask_runs(lambda runs: runs.against_baseline(runs=ids))}
    rows = [_row(run, deltas[run.id]) for run in page.runs]
    session.emit(rows, columns=("id", "experiment", "name", "status", "started_at", "params", "metrics"))


def _row(run: Run, delta: BaselineDelta) -> dict[str, Any]:
    """A run for a table; a metric that the baseline has too is followed by its change."""
    metrics = {
        key: f"{value:.6g} ({delta.metrics[key]:+.3g})" if key in delta.metrics else f"{value:.6g}"
        for key, value in run.metrics.items()
    }
    name = f"{run.name} (baseline)" if delta.baseline == run.id else run.name
    return {
        "id": run.id, "experiment": run.experiment, "name": name, "status": run.status, "started_at": run.started_at,
        "params": run.params, "metrics": {**metrics, **run.not_finite},
    }  # fmt: skip


@command("show")
@click.argument("run")
def show(session: Session, run: str) -> None:
    """One run, with its change against the baseline of its experiment."""
    found = session.ask_runs(lambda runs: runs.get(run))
    if session.as_json:
        session.emit(found)
        return
    [delta] = session.ask_runs(lambda runs: runs.against_baseline(runs=[found.id]))
    session.emit(found)
    if delta.baseline and delta.baseline != found.id:
        changes = ", ".join(f"{key} {value:+.4g}" for key, value in delta.metrics.items()) or "no metric in common"
        click.echo(f"against the baseline {delta.baseline}: {changes}")
    elif delta.baseline:
        click.echo("this run is the baseline of its experiment")


@command("compare")
@click.argument("runs", nargs=-1, required=True)
@click.option("--all", "everything", is_flag=True, help="Show what is the same, too.")
def compare(session: Session, runs: tuple[str, ...], everything: bool) -> None:
    """Runs beside each other: only what differs, unless --all; with what changed in code and environment."""
    comparison = session.ask_runs(lambda found: found.compare(list(runs), everything=everything))
    if session.as_json:
        session.emit(comparison)
        return
    from loopwright.cli.comparison import print_code, print_comparison

    print_comparison(comparison)
    if session.offline is not None:
        return  # only the workspace knows what changed in the code
    first, *others = comparison.runs
    for other in others:
        print_code(other.name or other.id, session.ws.pipelines.differences(first.id, other.id))


@command("artifact")
@click.argument("run")
@click.argument("path")
def artifact(session: Session, run: str, path: str) -> None:
    """Write a run's artifact to stdout."""
    sys.stdout.buffer.write(session.ask_runs(lambda runs: runs.artifact(run, path)))


for made in (list_, show, compare, artifact):
    runs.add_command(made)
