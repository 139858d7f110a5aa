"""Datasets on the command line: what needs local files is made by hand, the rest is derived."""

from __future__ import annotations

from pathlib import Path

import click

from loopwright.cli.command import Session, command, fail_softly
from loopwright.cli.derived import DerivedGroup

data = DerivedGroup(
    "data", ["datasets"], "Datasets: ingest, versions, profiles, checks.", hidden_verbs=["profile", "versions"]
)


@command("ingest")
@click.argument("name")
@click.argument("source")
@click.option("--mode", type=click.Choice(["replace", "append"]), default="replace", help="Replace all rows, or add.")
@click.option("--format", "format_", metavar="FORMAT", help="csv, parquet or jsonl; by default by the file's name.")
@click.option("--message", "-m", default="", metavar="TEXT", help="What this version is.")
def ingest(session: Session, name: str, source: str, mode: str, format_: str | None, message: str) -> None:
    """Make a version of dataset NAME from SOURCE: CSV, Parquet, JSON lines (zipped or gzipped), or a folder."""
    version = session.ws.datasets.ingest(name, Path(source), mode=mode, format=format_, message=message)
    session.emit(version)


@command("ingest-sql")
@click.argument("name")
@click.argument("query")
@click.option("--url", required=True, envvar="LOOPWRIGHT_SOURCE_URL", help="The database, such as postgresql://…")
@click.option("--message", "-m", default="", metavar="TEXT", help="What this version is.")
def ingest_sql(session: Session, name: str, query: str, url: str, message: str) -> None:
    """Make a version of dataset NAME from the result of a SQL query."""
    session.emit(session.ws.datasets.ingest_sql(name, url, query, message=message))


@command("log")
@click.argument("name")
@click.option("--limit", default=20, metavar="N", help="At most so many versions.")
def log(session: Session, name: str, limit: int) -> None:
    """The versions of a dataset, newest first."""
    shown = ("ref", "rows", "size_bytes", "digest", "created_at", "actor", "source", "message")
    session.emit(session.ws.datasets.versions(name, limit=limit), columns=shown)


@command("profile")
@click.argument("ref")
def profile(session: Session, ref: str) -> None:
    """What each column of a dataset version holds."""
    found = session.ws.datasets.profile(ref)
    if session.as_json:
        session.emit(found)
        return
    rows = [
        {
            "column": name,
            "type": column.dtype,
            "nulls": f"{column.nulls / max(1, column.count + column.nulls):.1%}",
            "distinct": round(column.distinct),
            "mean": column.mean,
            "min": column.min,
            "max": column.max,
            "top": ", ".join(f"{item.value} ({item.count})" for item in column.top[:3]),
        }
        for name, column in found.columns.items()
    ]
    session.emit(rows, title=f"{found.ref}: {found.rows} rows")


@command("head")
@click.argument("ref")
@click.option("--rows", "-n", default=10, metavar="N", help="So many rows.")
def head(session: Session, ref: str, rows: int) -> None:
    """The first rows of a dataset version."""
    frame = session.ws.datasets.scan(ref).head(rows).collect()
    session.emit(frame.to_dicts())


@command("check")
@click.argument("ref")
@click.argument("suite")
def check(session: Session, ref: str, suite: str) -> int:
    """Check a dataset version by a kept suite; exit code 1 when a check of severity error fails.

    SUITE is the name of a suite that was saved, or module:NAME in the project's code.
    """
    from loopwright.cli.code import load_object

    suite_object = load_object(session.ws.location.root, suite) if ":" in suite else session.ws.datasets.suite(suite)
    report = session.ws.datasets.check(ref, suite_object)
    shown = ("name", "severity", "passed", "failing_rows", "fraction", "message")
    session.emit(report if session.as_json else list(report.results), columns=shown, title=f"{ref} by {report.suite}")
    return fail_softly(not report.passed)


for made in (ingest, ingest_sql, log, profile, head, check):
    data.add_command(made)
