"""`loopwright predict`: a model's answers for all rows of a file, a table or a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from loopwright.cli.command import Session, command
from loopwright.cli.folders import bundle_in, is_bundle

if TYPE_CHECKING:
    from loopwright.serve import ScoringOptions, ScoringReport


@command("predict")
@click.argument("model", metavar="REF|FOLDER")
@click.option("--input", "-i", "source", required=True, metavar="PATH|dataset:NAME",
              help="A CSV, Parquet or JSON-lines file, a folder of such, a Delta table, or a dataset.")  # fmt: skip
@click.option("--output", "-o", required=True, metavar="PATH|dataset:NAME",
              help="A file (.parquet, .csv, .jsonl), a folder's name, or a dataset.")  # fmt: skip
@click.option("--format", type=click.Choice(["delta"]), default=None, help="Append to the Delta table at --output.")
@click.option("--keep", default="others", show_default=True, metavar="COLUMNS",
              help="Columns to keep beside the answers, by commas; or all, none, or others: those the model does not "
                   "take.")  # fmt: skip
@click.option("--prefix", default="", metavar="TEXT", help="Put before the names of the answers.")
@click.option("--skip-bad", is_flag=True, help="Give empty answers to rows that lack a value, instead of ending there.")
@click.option("--part-rows", type=click.IntRange(1, 10_000_000), metavar="N", help="Rows scored at once.")
@click.option("--threads", type=click.IntRange(0, 1024), default=0, metavar="N", help="Of the model; 0 is one a core.")
@click.option("--workers", type=click.IntRange(0, 64), default=0, metavar="N",
              help="On Ray, how many score at once; 0 is one for each CPU.")  # fmt: skip
@click.option("--restart", is_flag=True, help="Begin anew where something else was left unfinished.")
def predict(
    session: Session, model: str, source: str, output: str, format: str | None, keep: str, **given: object
) -> None:
    """Score all rows of --input with a model and write the answers to --output.

    REF is model:NAME, model:NAME@3, model:NAME@champion or endpoint:NAME (its stable version); FOLDER is a bundle's.
    With a workspace on a server the model is fetched and answers here. Rows stream: memory does not grow with them.
    Said again after an interruption, it goes on where it stopped.
    """
    from loopwright.serve import ScoringOptions

    chosen = {name: value for name, value in given.items() if value is not None}
    options = ScoringOptions(keep=tuple(filter(None, keep.split(","))) or ("none",), **chosen)  # type: ignore[arg-type]  # click checked them
    with session.progress():
        report = _scored(session, model, source, output, options, format or "")
    if session.as_json:
        session.emit(report)
        return
    rate = report.rows - report.resumed_rows
    told = f"{report.rows:,} rows scored by {report.model} in {report.seconds:.1f} s"
    told += f" ({rate / max(report.seconds, 1e-9):,.0f} a second)" if rate else ""
    told += f", {report.resumed_rows:,} of them before" if report.resumed_rows else ""
    told += f", {report.bad_rows:,} without an answer" if report.bad_rows else ""
    click.echo(f"{told}: {report.output}")


def _scored(
    session: Session, model: str, source: str, output: str, options: ScoringOptions, format: str
) -> ScoringReport:
    folder = Path(model)
    if is_bundle(folder):
        return _by_bundle(session, folder, source, output, options, format)
    ws = session.ws
    if model.startswith("endpoint:"):
        model = _stable_of(ws.endpoints.get(model.removeprefix("endpoint:")))
    report: ScoringReport = ws.scoring.predict(model, source, output, options, format)
    return report


def _by_bundle(
    session: Session, folder: Path, source: str, output: str, options: ScoringOptions, format: str
) -> ScoringReport:
    from loopwright.core import Invalid, digest_file
    from loopwright.serve import open_rows, score, scorer_of, threads_of

    if source.startswith("dataset:") or output.startswith("dataset:"):
        raise Invalid("a bundle's folder knows no datasets", next_step="name a registered model instead of the folder")
    bundle = bundle_in(session, folder)
    return score(
        scorer_of(bundle, threads_of(options)),
        open_rows(Path(source), bundle.signature),
        Path(output),
        options,
        model=str(folder),
        digest=digest_file(folder / "bundle.json"),
        source=source,
        format=format,
    )


def _stable_of(endpoint: object) -> str:
    from loopwright.core import Conflict

    stable = str(getattr(endpoint, "stable", ""))
    if not stable:
        raise Conflict("the endpoint has no stable version yet", next_step="release one, or name a model's version")
    return stable
