"""A Triton model repository: `config.pbtxt`, and a Python backend's model around the folder that predicts by itself."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from loopwright.core import DType, Invalid, check_name
from loopwright.models import Bundle, Input
from loopwright.models import Output as ModelOutput
from loopwright.serve.edge.exporting import EdgePlan, export_within
from loopwright.serve.edge.model import EdgeReport

# Not imported: it needs what Triton alone has.
_MODEL = Path(__file__).with_name("triton_model.py")
VERSION = "1"
MAX_BATCH_SIZE = 1 << 20
_TYPES = {
    DType.BOOL: "TYPE_BOOL",
    DType.INT64: "TYPE_INT64",
    DType.FLOAT32: "TYPE_FP32",
    DType.FLOAT64: "TYPE_FP64",
    DType.STRING: "TYPE_STRING",
}


def export_triton(
    bundle: Bundle, target: Path, plan: EdgePlan, *, name: str, ref: str, digest: str, max_batch_size: int = 0
) -> EdgeReport:
    """Write a model repository with one model, answered by Triton's Python backend with numpy and onnxruntime.

    Args:
        target: a new folder, the repository. Where the budget is missed it is not made; see `export_edge`.
        name: the model's name on the wire, and of its folder.
        max_batch_size: 0 gives the tensors that `loopwright serve` takes: a value per row, in a dimension of rows. More
            lets Triton join requests up to so many rows; then scalars have the shape [rows, 1].

    Raises:
        Invalid: a name would break out of its place, and what `export_edge` refuses.
    """
    check_name("model", name)
    config = config_of(bundle, name, max_batch_size)

    def dress(fresh: Path, _report: EdgeReport) -> None:
        shutil.copyfile(_MODEL, fresh / name / VERSION / "model.py")
        (fresh / name / "config.pbtxt").write_text(config, encoding="utf-8")
        (fresh / "requirements.txt").write_text(requirements(), encoding="utf-8")

    return export_within(bundle, target, plan, f"{name}/{VERSION}", dress, ref=ref, digest=digest)


def requirements(*more: str) -> str:
    """What the server's Python needs: onnxruntime in the version that the export was compared with."""
    return "\n".join(["numpy", f"onnxruntime=={version('onnxruntime')}", *more]) + "\n"


def config_of(bundle: Bundle, name: str, max_batch_size: int) -> str:
    """The text of `config.pbtxt`."""
    if not 0 <= max_batch_size <= MAX_BATCH_SIZE:
        raise Invalid(f"a batch has 0 to {MAX_BATCH_SIZE:,} rows, not {max_batch_size:,}")
    signature = bundle.signature
    lines = [
        f"name: {_quoted(name)}",
        'backend: "python"',
        f"max_batch_size: {max_batch_size}",
        *_tensors("input", signature.inputs, batched=max_batch_size > 0),
        *_tensors("output", signature.outputs, batched=max_batch_size > 0),
        "instance_group [ { count: 1, kind: KIND_CPU } ]",
    ]
    return "\n".join([*lines, *(["dynamic_batching { }"] if max_batch_size else [])]) + "\n"


def _tensors(kind: str, items: Iterable[Input | ModelOutput], *, batched: bool) -> list[str]:
    lines = [f"{kind} ["]
    for item in items:
        dims = list(item.shape) or [1] if batched else [-1, *item.shape]
        lines.append(f"  {{ name: {_quoted(item.name)}, data_type: {_TYPES[item.dtype]}, dims: {dims} }},")
    return [*lines[:-1], lines[-1].removesuffix(","), "]"]


def _quoted(text: str) -> str:
    """A string of protobuf's text form.

    Raises:
        Invalid: it holds a line break or a control character.
    """
    if not text.isprintable():
        raise Invalid(f"{text[:80]!r} holds a line break or a control character, which config.pbtxt cannot take")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
