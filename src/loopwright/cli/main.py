"""The entry point: a group whose commands are imported on first use, and one place where errors become exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

# name -> (module, attribute, one line of help). The help stands here so that `--help` imports no command.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "init": ("loopwright.cli.init", "init", "Start a project in a folder: settings, a pipeline, a loop."),
    "up": ("loopwright.cli.up", "up", "Start the control app, the inference process and the controller."),
    "serve": ("loopwright.cli.serve", "serve", "Answer predictions for one model or endpoint."),
    "ask": ("loopwright.cli.ask", "ask", "Ask an endpoint for its answer to one row, by values or by key."),
    "predict": ("loopwright.cli.predict", "predict", "Score all rows of a file, table or dataset."),
    "demo": ("loopwright.cli.demo", "demo", "Close the whole loop on real data."),
    "data": ("loopwright.cli.data", "data", "Datasets: ingest, versions, profiles, checks."),
    "features": ("loopwright.cli.derived", "features", "Feature views: list, materialise, read online."),
    "runs": ("loopwright.cli.runs", "runs", "Runs: list, show, compare, pin a baseline."),
    "traces": ("loopwright.cli.derived", "traces", "Traces of requests: search, get, spans, assess, delete."),
    "experiments": ("loopwright.cli.runs", "experiments", "Experiments: list, tag, rename, delete, restore."),
    "sync": ("loopwright.cli.sync", "sync", "Deliver what runs recorded while their workspace was away."),
    "import": ("loopwright.cli.importing", "importing", "Bring in what another system holds: MLflow."),
    "export": ("loopwright.cli.importing", "exporting", "Carry what is here into another system: MLflow, containers."),
    "pipeline": ("loopwright.cli.pipeline", "pipeline", "Pipelines: run and show."),
    "search": ("loopwright.cli.pipeline", "search", "Search hyperparameters over a pipeline."),
    "reproduce": ("loopwright.cli.pipeline", "reproduce", "Re-run a run from what it captured and compare."),
    "models": ("loopwright.cli.models", "models", "Models: versions, aliases, cards, bundles."),
    "endpoints": ("loopwright.cli.derived", "endpoints", "Endpoints: create, traffic, roll back."),
    "rollouts": ("loopwright.cli.derived", "rollouts", "Rollouts: list, show, take back."),
    "approvals": ("loopwright.cli.derived", "approvals", "Approvals: list, grant, deny."),
    "predictions": ("loopwright.cli.predictions", "predictions", "Logged predictions: list, show, query, locate."),
    "monitors": ("loopwright.cli.derived", "monitors", "Monitors: declare, windows, alerts."),
    "scoring": ("loopwright.cli.scoring", "scoring", "Batch scoring jobs: apply, list, trigger, runs."),
    "loops": ("loopwright.cli.loops", "loops", "Loops: apply, list, trigger, runs."),
    "events": ("loopwright.cli.history", "events", "The log of events, oldest first; --follow to watch."),
    "audit": ("loopwright.cli.history", "audit", "Verify the chain of events."),
    "trace": ("loopwright.cli.history", "trace", "Walk the lineage of a ref, up or down."),
    "webhooks": ("loopwright.cli.derived", "webhooks", "Webhooks: create, list, test, what was delivered."),
    "tokens": ("loopwright.cli.derived", "tokens", "Access tokens: create, list, revoke."),
    "gc": ("loopwright.cli.storage", "gc", "Remove for good what was deleted long ago and what nothing needs."),
    "hold": ("loopwright.cli.storage", "hold", "Keep something, with all that it came from, whatever is deleted."),
    "holds": ("loopwright.cli.storage", "holds", "List what is held."),
    "release-hold": ("loopwright.cli.storage", "release_hold", "Give up a hold."),
    "fsck": ("loopwright.cli.care", "fsck", "Check every stored byte and reference."),
    "doctor": ("loopwright.cli.care", "doctor", "Say what is installed, reachable, too old or misconfigured."),
}


class LazyGroup(click.Group):
    """A group that imports a command when it is invoked."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, _, summary) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="loopwright")
def loopwright() -> None:
    """Run the whole life of a machine-learning model, from data to retraining, with one lineage."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code (DESIGN: 0 done, 1 judged negative, 2 wrong use, 3 not found or
    conflict, 4 unavailable, 5 corrupt)."""
    try:
        result: Any = loopwright.main(args=arguments, prog_name="loopwright", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.Abort:
        click.echo("stopped", err=True)
        return 130
    except click.ClickException as error:
        error.show()
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _report_os_error(error)
    except Exception as error:
        # Only our own kinds are reported in one line; anything else is a defect and keeps its traceback.
        code = getattr(error, "exit_code", None)
        if not isinstance(code, int):
            raise
        click.echo(f"error: {error}", err=True)
        return code


def _report_os_error(error: OSError) -> int:
    where = f"{error.filename}: " if error.filename else ""
    click.echo(f"error: {where}{error.strerror or error}", err=True)
    return 4
