"""`loopwright import` and `loopwright export`: what other systems hold comes here, what is here goes there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from loopwright.cli.command import Session, command
from loopwright.cli.exporting import container
from loopwright.cli.exporting_edge import edge
from loopwright.cli.exporting_hosts import mlserver, triton
from loopwright.core import Invalid

if TYPE_CHECKING:
    from loopwright.connect import Report

_OMITTED_SHOWN = 20


@click.group("import")
def importing() -> None:
    """Bring in what another system holds."""


@click.group("export")
def exporting() -> None:
    """Carry what is here into another system, or a model into a container image, to the edge or another server."""


def _shared(function: Any) -> Any:
    options = (
        click.option("--experiment", "experiments", multiple=True, metavar="NAME", help="Only this; repeatable."),
        click.option("--without-files", is_flag=True, help="Leave artifacts where they are."),
        click.option("--without-models", is_flag=True, help="Leave the model registry where it is."),
        click.option("--dry-run", is_flag=True, help="Change nothing; count what would be carried."),
        click.option("--allow-http", is_flag=True, help="Speak to a server on another machine in clear text."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@command("mlflow")
@click.argument("uri")
@click.option("--artifacts", default="", metavar="DIR", help="Of a database: the server's --artifacts-destination.")
@_shared
def import_mlflow(
    session: Session,
    uri: str,
    artifacts: str,
    experiments: tuple[str, ...],
    without_files: bool,
    without_models: bool,
    dry_run: bool,
    allow_http: bool,
) -> int:
    """Bring in an MLflow store: experiments, runs with their ids, metrics, artifacts, models.

    URI is the store's own (sqlite:///mlflow.db, postgresql://…, a folder mlruns), or the address of its server
    (https://…). Nothing in it is changed. Repeating an import brings what is new; one that broke off goes on.
    """
    from loopwright.connect import Plan, import_mlflow, open_mlflow_store

    ws = _local(session)
    plan = Plan(experiments, files=not without_files, models=not without_models, dry_run=dry_run)
    source = open_mlflow_store(uri, artifacts, allow_http=allow_http)
    try:
        report = import_mlflow(ws, source, plan)
    finally:
        source.close()
    return _show(session, report)


@command("mlflow")
@click.argument("uri")
@_shared
def export_mlflow(
    session: Session,
    uri: str,
    experiments: tuple[str, ...],
    without_files: bool,
    without_models: bool,
    dry_run: bool,
    allow_http: bool,
) -> int:
    """Carry runs, metrics, artifacts and models into an MLflow server.

    URI is its address (https://…). MLflow gives runs ids of its own; ours stay as the tag loopwright.run_id.
    Repeating an export carries what is new.
    """
    from loopwright.connect import Plan, export_mlflow, open_mlflow_server

    ws = _local(session)
    plan = Plan(experiments, files=not without_files, models=not without_models, dry_run=dry_run)
    api = open_mlflow_server(uri, allow_http=allow_http)
    try:
        report = export_mlflow(ws, api, plan)
    finally:
        api.close()
    return _show(session, report)


def _local(session: Session) -> Any:
    from loopwright.workspace import Workspace

    if not isinstance(session.ws, Workspace):
        raise Invalid(
            "the past of a workspace is not written over the network",
            next_step="run this where the workspace is: --workspace DIR",
        )
    return session.ws


def _show(session: Session, report: Report) -> int:
    if session.as_json:
        session.emit(report)
    else:
        kinds = dict.fromkeys([*report.counts, *report.there])
        rows = [
            {"what": kind, "carried": report.counts.get(kind, 0), "there already": report.there.get(kind, 0)}
            for kind in kinds
        ]
        session.emit(rows, columns=("what", "carried", "there already"))
        session.say(
            f"{report.bytes:,} bytes of files, {report.seconds:.1f} s" + (" (dry run)" if report.dry_run else "")
        )
        for note in report.notes:
            session.say(note)
        _show_omitted(session, report)
    return 0


def _show_omitted(session: Session, report: Report) -> None:
    folded = report.folded(_OMITTED_SHOWN)
    if folded:
        session.say("not carried:")
    for item in folded:
        more = f" and {item.count - 1:,} more" if item.count > 1 else ""
        session.say(f"  {item.what}{more}: {item.reason}")


importing.add_command(import_mlflow)
exporting.add_command(export_mlflow)
exporting.add_command(container)
exporting.add_command(edge)
exporting.add_command(mlserver)
exporting.add_command(triton)
