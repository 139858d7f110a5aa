"""Pipelines, search and reproduction on the command line."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from loopwright.cli.command import Session, command, fail_softly
from loopwright.cli.derived import DerivedGroup
from loopwright.core import Invalid, Scope

pipeline = DerivedGroup("pipeline", ["pipelines"], "Pipelines: run and show.", hidden_verbs=["run", "reproduce"])


def parse_params(given: tuple[str, ...]) -> dict[str, Any]:
    """`key=value` pairs; a value is JSON where it reads as JSON, else text.

    Raises:
        Invalid: a pair without `=`.
    """
    values: dict[str, Any] = {}
    for pair in given:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise Invalid(f"{pair!r} is no parameter", where="--param", next_step="write --param key=value")
        try:
            values[key] = msgspec.json.decode(text)
        except msgspec.DecodeError:
            values[key] = text
    return values


@command("run")
@click.argument("reference", metavar="MODULE:FUNCTION")
@click.option("--param", "-p", "params", multiple=True, metavar="KEY=VALUE", help="A parameter; repeatable.")
@click.option("--experiment", metavar="NAME", help="The experiment; by default the pipeline's name.")
@click.option("--run-id", metavar="ID", help="Go on with this run, or give a new one this id.")
@click.option("--no-cache", is_flag=True, help="Run every step, whatever the cache holds.")
@click.option("--workers", type=int, metavar="N", help="So many processes.")
@click.option("--cause", default="", metavar="REF", help="What led to this run.")
@click.option("--actor", default="", metavar="REF", help="On whose behalf; by default the local user's.")
def run(
    session: Session,
    reference: str,
    params: tuple[str, ...],
    experiment: str | None,
    run_id: str | None,
    no_cache: bool,
    workers: int | None,
    cause: str,
    actor: str,
) -> int:
    """Run a pipeline of the project's code and keep what it made."""
    scope = session.ws.scope
    workspace = session.ws.scoped(Scope(scope.project, actor or scope.actor, cause or scope.cause))
    done = workspace.pipelines.run(
        reference,
        params=parse_params(params),
        experiment=experiment,
        run_id=run_id,
        use_cache=not no_cache,
        workers=workers,
    )
    session.emit(done)
    return fail_softly(str(done.status) != "finished")


@command("search")
@click.argument("reference", metavar="MODULE:FUNCTION")
@click.option("--space", required=True, metavar="JSON", help='Such as {"lr": {"uniform": [0.01, 0.3], "log": true}}')
@click.option("--metric", required=True, metavar="NAME", help="The metric that the pipeline logs.")
@click.option("--direction", type=click.Choice(["maximise", "minimise"]), default="maximise")
@click.option("--trials", default=20, metavar="N")
@click.option("--seed", default=0, metavar="N")
@click.option("--param", "-p", "params", multiple=True, metavar="KEY=VALUE", help="A fixed parameter; repeatable.")
def search(
    session: Session,
    reference: str,
    space: str,
    metric: str,
    direction: str,
    trials: int,
    seed: int,
    params: tuple[str, ...],
) -> None:
    """Search hyperparameters over a pipeline; each trial is a run."""
    from loopwright.train import parse_space

    result = session.ws.train.search(
        reference,
        parse_space(space),
        metric=metric,
        direction=direction,
        trials=trials,
        seed=seed,
        params=parse_params(params),
    )
    session.emit(result)


@command("reproduce")
@click.argument("run")
def reproduce(session: Session, run: str) -> int:
    """Re-run a run from what it captured; exit code 1 when the outcome is different."""
    result = session.ws.pipelines.reproduce(run)
    session.emit(result)
    return fail_softly(str(result.verdict) == "different")


pipeline.add_command(run)
