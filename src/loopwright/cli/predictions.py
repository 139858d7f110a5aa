"""Logged predictions on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from loopwright.cli.command import Session, command
from loopwright.core import Invalid

predictions = click.Group("predictions", help="Logged predictions: list, show, query, locate.")


@command("list")
@click.argument("endpoint")
@click.option("--limit", default=100, show_default=True, metavar="N", help="At most so many.")
@click.option("--after", default="", metavar="ID", help="The last id of the page before.")
def list_(session: Session, endpoint: str, limit: int, after: str) -> None:
    """An endpoint's predictions, newest first."""
    session.emit(session.ws.monitors.predictions(endpoint, limit, after))


@command("show")
@click.argument("prediction")
def show(session: Session, prediction: str) -> None:
    """One prediction with its features, its answer, and the truth if it came."""
    session.emit(session.ws.monitors.find_prediction(prediction))


@command("flush")
def flush(session: Session) -> None:
    """Move what was logged into the tables now, and drop journals that are done with."""
    session.emit({"rows": _flushed(session)})


@command("locate")
@click.argument("endpoint")
def locate(session: Session, endpoint: str) -> None:
    """Where any reader of Delta Lake finds an endpoint's predictions and feedback, and how many rows there are."""
    logged = session.ws.monitors.logged(endpoint)
    rows = logged.rows()
    session.emit([{"table": name, "rows": rows[name], "location": at} for name, at in logged.locations().items()])


@command("query")
@click.argument("endpoint")
@click.argument("sql")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Write a CSV or Parquet file instead of stdout.")
@click.option("--as-is", is_flag=True, help="Ask what is in the tables already; move nothing there first.")
def query(session: Session, endpoint: str, sql: str, output: Path | None, as_is: bool) -> None:
    """Ask an endpoint's log in SQL; its tables are called predictions and feedback."""
    if not as_is:
        _flushed(session)
    import polars as pl

    found = session.ws.monitors.logged(endpoint).query(sql)
    try:
        if output is None:
            session.emit(found.collect().to_dicts())
        elif output.suffix == ".parquet":
            found.sink_parquet(output)
        else:
            found.sink_csv(output)
    except pl.exceptions.PolarsError as error:  # what no schema tells: a cast that fails, a file that is no table
        raise Invalid(f"the query cannot be answered: {str(error).splitlines()[0]}") from None


def _flushed(session: Session) -> Any:
    session.ws.monitors.advance()
    return session.ws.monitors.compact()


for made in (list_, show, flush, locate, query):
    predictions.add_command(made)
