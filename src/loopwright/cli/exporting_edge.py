"""`loopwright export edge`: a model as a folder that predicts by itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from loopwright.cli.command import Session, command, fail_softly
from loopwright.cli.folders import bundle_in, is_bundle

if TYPE_CHECKING:
    from loopwright.models import Bundle
    from loopwright.serve import EdgeReport

_FILE = click.Path(path_type=Path)


@command("edge")
@click.argument("model", metavar="REF|FOLDER")
@click.argument("target", type=_FILE, metavar="TARGET")
@click.option("--precision", type=click.Choice(["none", "fp16", "int8"]), default="none", show_default=True,
              help="How the weights are kept. Trees have none that could be smaller, and stay.")  # fmt: skip
@click.option("--rows", type=_FILE, metavar="FILE",
              help="Rows to compare on. Default: the bundle's example, and rows like those of training.")  # fmt: skip
@click.option("--target", "truth", default="", metavar="COLUMN", help="The column of --rows that holds the truth.")
@click.option("--calibrate", type=_FILE, metavar="FILE", help="Rows for static int8; without them it is dynamic.")
@click.option("--tolerance", type=click.FloatRange(min=0), default=0.01, show_default=True,
              help="How far the numbers of a model without labels may differ.")  # fmt: skip
@click.option("--min-agreement", type=click.FloatRange(0, 1), default=0.99, show_default=True,
              help="The share of rows that must agree with the bundle's own graph.")  # fmt: skip
@click.option("--max-mb", type=click.FloatRange(min=0), help="The most that the graph may measure, in 1,000,000 bytes.")
@click.option("--max-ms", type=click.FloatRange(min=0), help="The most that one row may take: p99 on one thread here.")
@click.option("--web", type=_FILE, metavar="FOLDER",
              help="Add a page that predicts in a browser, with the unpacked npm package onnxruntime-web.")  # fmt: skip
def edge(
    session: Session,
    model: str,
    target: Path,
    precision: str,
    rows: Path | None,
    truth: str,
    calibrate: Path | None,
    tolerance: float,
    min_agreement: float,
    max_mb: float | None,
    max_ms: float | None,
    web: Path | None,
) -> int:
    """Write a new folder TARGET that predicts with numpy and onnxruntime alone: `from bundle import predict`.

    The exported graph is compared with the bundle's own, and measured. Where the budget is missed no folder is made:
    the report lies at TARGET.report.json, and the exit code is 1.
    """
    from loopwright.serve import Budget, EdgePlan, Precision, export_edge

    plan = EdgePlan(
        precision=Precision(precision),
        rows=rows,
        target=truth,
        calibration=calibrate,
        tolerance=tolerance,
        budget=Budget(max_mb, max_ms, min_agreement),
        web=web,
    )
    found = model_of(session, model)
    report = export_edge(found.bundle, target, plan, ref=found.ref, digest=found.digest)
    return show(session, report, target, f"predicts: cd {target} && python bundle.py rows.csv > answers.csv")


class Model(NamedTuple):
    """A model to export: its bundle, what it is called, and the digest of the bundle."""

    bundle: Bundle
    ref: str
    digest: str
    name: str


def model_of(session: Session, model: str) -> Model:
    """A model version of the workspace, or the bundle in a folder."""
    from loopwright.core import digest_file

    folder = Path(model)
    if is_bundle(folder):
        name = folder.resolve().name
        return Model(bundle_in(session, folder), name, digest_file(folder / "bundle.json"), name)
    version = session.ws.models.get(model)
    return Model(session.ws.models.bundle(version.ref), version.ref, version.bundle, version.name)


def show(session: Session, report: EdgeReport, target: Path, told: str) -> int:
    """Print an export's report, and what its folder is for; the exit code is 1 where the budget was missed."""
    if session.as_json:
        session.emit(report)
    else:
        _show(session, report)
        click.echo(f"{target} {told}" if report.passed else f"no folder was made; the report is {target}.report.json")
    return fail_softly(not report.passed)


def _show(session: Session, report: EdgeReport) -> None:
    before, after, found = report.latency_before, report.latency_after, report.comparison
    rows = [
        {"": "graph, bytes", "bundle": f"{report.bytes_before:,}", "export": f"{report.bytes_after:,}"},
        {"": "one row, p50 ms", "bundle": f"{before.p50_ms:.3f}", "export": f"{after.p50_ms:.3f}"},
        {"": "one row, p99 ms", "bundle": f"{before.p99_ms:.3f}", "export": f"{after.p99_ms:.3f}"},
    ]
    if report.accuracy is not None:
        right = report.accuracy
        rows.append({"": right.measure, "bundle": f"{right.own:.4f}", "export": f"{right.exported:.4f}"})
    session.emit(rows, columns=("", "bundle", "export"), title=f"{report.model}: {report.applied}")
    if report.reason:
        click.echo(f"kept as it is: {report.reason}")
    click.echo(
        f"{found.agreement:.2%} of {found.rows:,} rows agree; largest difference {found.max_abs:.3g} "
        f"(relative {found.max_rel:.3g}); rows: {found.source}"
    )
    for verdict in report.verdicts:
        told = "kept" if verdict.kept else "MISSED"
        click.echo(f"{told}: {verdict.what} {verdict.found:g}, limit {verdict.limit:g}")
