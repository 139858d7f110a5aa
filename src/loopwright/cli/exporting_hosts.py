"""`loopwright export triton` and `export mlserver`: a model as another server takes it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loopwright.cli.command import Session, command
from loopwright.cli.exporting_edge import model_of, show

if TYPE_CHECKING:
    from loopwright.serve import EdgePlan

_FILE = click.Path(path_type=Path)


def _shared(function: Any) -> Any:
    options = (
        click.argument("model", metavar="REF|FOLDER"),
        click.argument("target", type=_FILE, metavar="TARGET"),
        click.option("--name", default="", metavar="NAME",
                     help="The model's name on the wire. Default: its registered name."),
        click.option("--precision", type=click.Choice(["none", "fp16", "int8"]), default="none", show_default=True,
                     help="How the weights are kept; see export edge."),
        click.option("--rows", type=_FILE, metavar="FILE",
                     help="Rows to compare on. Default: the bundle's example, and rows like those of training."),
    )  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


@command("triton")
@_shared
@click.option("--max-batch-size", type=click.IntRange(min=0), default=0, show_default=True, metavar="ROWS",
              help="Let Triton join requests up to so many rows; tensors of scalars are [rows, 1] then.")  # fmt: skip
def triton(
    session: Session, model: str, target: Path, name: str, precision: str, rows: Path | None, max_batch_size: int
) -> int:
    """Write a new folder TARGET that is a model repository of NVIDIA's Triton Inference Server.

    Its Python backend answers with numpy and onnxruntime. The exported graph is compared with the bundle's own; where
    it differs no folder is made, the report lies at TARGET.report.json, and the exit code is 1.
    """
    from loopwright.serve import export_triton

    found = model_of(session, model)
    wire, plan = name or found.name, _plan(precision, rows)
    report = export_triton(
        found.bundle, target, plan, name=wire, ref=found.ref, digest=found.digest, max_batch_size=max_batch_size
    )
    return show(session, report, target, f"holds {wire}: tritonserver --model-repository {target}")


@command("mlserver")
@_shared
def mlserver(session: Session, model: str, target: Path, name: str, precision: str, rows: Path | None) -> int:
    """Write a new folder TARGET that MLServer serves.

    Its runtime answers with numpy and onnxruntime. The exported graph is compared with the bundle's own; where it
    differs no folder is made, the report lies at TARGET.report.json, and the exit code is 1.
    """
    from loopwright.serve import export_mlserver

    found = model_of(session, model)
    wire, plan = name or found.name, _plan(precision, rows)
    report = export_mlserver(found.bundle, target, plan, name=wire, ref=found.ref, digest=found.digest)
    return show(session, report, target, f"holds {wire}: mlserver start {target}")


def _plan(precision: str, rows: Path | None) -> EdgePlan:
    from loopwright.serve import EdgePlan, Precision

    return EdgePlan(precision=Precision(precision), rows=rows)
