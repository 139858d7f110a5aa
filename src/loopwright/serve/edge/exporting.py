"""A bundle as a folder that predicts by itself: shrunk, compared with what it came from, and held to a budget."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright import __version__
from loopwright.core import Conflict, Corrupt, Invalid, Unavailable, new_id
from loopwright.models import Bundle, BundleManifest, Layout, columns_of
from loopwright.serve.edge import standalone
from loopwright.serve.edge.judging import accuracy, compare, judge, latency
from loopwright.serve.edge.model import Budget, EdgeReport, Precision
from loopwright.serve.edge.sampling import drawn_rows, rows_of_file
from loopwright.serve.edge.shrinking import batches, numbers_within, shrink, weights_of
from loopwright.serve.edge.web import find_package, write_page

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    Array = np.ndarray[Any, Any]

REPORT_FILE = "report.json"
_LATENCY_ROWS = 100
_ELEMENTS = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(bool)": "bool",
    "tensor(string)": "object",
}


class EdgePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of an export.

    Attributes:
        rows: a file to compare on; by default rows drawn from the training profile.
        target: the column of `rows` that holds the truth.
        calibration: a file of rows for static int8.
        tolerance: how far numbers of models without labels may differ, absolute and relative.
        web: the unpacked npm package onnxruntime-web, for a page that predicts in a browser.
    """

    precision: Precision = Precision.NONE
    rows: Path | None = None
    target: str = ""
    calibration: Path | None = None
    tolerance: float = 0.01
    budget: Budget = Budget()
    web: Path | None = None


def export_edge(bundle: Bundle, target: Path, plan: EdgePlan, *, ref: str, digest: str) -> EdgeReport:
    """Write a folder that predicts with numpy and onnxruntime alone, if it keeps to its budget.

    Args:
        target: a new folder. Where the budget is missed it is not made, and the report lies beside it, as
            TARGET.report.json.
        ref, digest: of the model version, for the report.

    Raises:
        Conflict: the target is there already.
        Invalid: the model has no graph, cannot be converted, or the rows do not fit it.
        NotFound: a file that the plan names is not there.
        Corrupt: the bundle is damaged.
        Unavailable: the disk is full.
    """
    dist, web = find_package(plan.web) if plan.web else (None, "")

    def dress(fresh: Path, _report: EdgeReport) -> None:
        if dist is not None:
            write_page(dist, fresh)

    return export_within(bundle, target, plan, "", dress, ref=ref, digest=digest, web=web)


def export_within(
    bundle: Bundle,
    target: Path,
    plan: EdgePlan,
    inside: str,
    dress: Callable[[Path, EdgeReport], None],
    *,
    ref: str,
    digest: str,
    web: str = "",
) -> EdgeReport:
    """Write a folder around the one that predicts by itself, if that keeps to its budget; whole, or not at all.

    Args:
        inside: where in `target` the folder lies that predicts, as a relative path.
        dress: adds to the finished export, given where it is made, what is to lie around it.

    Raises:
        as `export_edge`.
    """
    _check(bundle, target, plan)
    fresh = target.with_name(f".{target.name}.{new_id()}")
    place = fresh / inside
    try:
        place.mkdir(parents=True)
        report = _made(bundle, place, plan, str(target), ref, digest, web)
        data = msgspec.json.format(msgspec.json.encode(report), indent=2)
        if report.passed:
            dress(fresh, report)
            (place / REPORT_FILE).write_bytes(data)
            fresh.replace(target)
        else:
            _keep(place / REPORT_FILE, data, target.with_name(f"{target.name}.{REPORT_FILE}"))
    except OSError as error:
        raise Unavailable(f"the export cannot be written: {error.strerror or error}", where=str(target)) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return report


def _check(bundle: Bundle, target: Path, plan: EdgePlan) -> None:
    if target.exists():
        raise Conflict(f"{target} is there already", next_step="name a new folder, or remove that one")
    if bundle.manifest.executes_code:
        raise Invalid("a model in Python has no graph, and runs in its worker process only")
    if plan.target and plan.rows is None:
        raise Invalid("--target names a column of rows that are not given", next_step="give --rows FILE")
    if plan.calibration is not None and plan.precision is not Precision.INT8:
        raise Invalid("calibration rows are for int8 alone", next_step="say --precision int8")
    bundle.verify()


def _keep(fresh: Path, data: bytes, place: Path) -> None:
    fresh.write_bytes(data)
    fresh.replace(place)


def _made(bundle: Bundle, fresh: Path, plan: EdgePlan, target: str, ref: str, digest: str, web: str) -> EdgeReport:
    """Everything but the page and the report, in a folder; and the report."""
    graph = (bundle.folder / standalone.GRAPH_FILE).read_bytes()
    frame, source = _sample(bundle, plan)
    scratch = fresh / "scratch"
    own_folder = scratch / "own"
    own_folder.mkdir(parents=True)
    own = _write(own_folder, bundle, graph, "none", ref, digest)
    calibration = batches(_feed(own, bundle, rows_of_file(plan.calibration, bundle))) if plan.calibration else []
    shrunk = shrink(graph, plan.precision, scratch, calibration)
    exported = _write(fresh, bundle, shrunk.graph, shrunk.applied, ref, digest)
    columns = columns_of(frame, bundle.signature)
    answers = bundle.predictor().predict(columns), _answers(exported, columns)
    rows = _plain(columns, _LATENCY_ROWS)
    comparison = compare(*answers, source, plan.tolerance)
    timed = latency(exported.predict, rows)
    verdicts = judge(plan.budget, len(shrunk.graph), timed, comparison)
    report = EdgeReport(
        path=target,
        model=ref,
        bundle=digest,
        precision=plan.precision,
        applied=shrunk.applied,
        reason=shrunk.reason,
        weights_before=weights_of(graph),
        weights_after=weights_of(shrunk.graph),
        untouched=numbers_within(shrunk.graph),
        bytes_before=len(graph),
        bytes_after=len(shrunk.graph),
        digest=hashlib.sha256(shrunk.graph).hexdigest(),
        comparison=comparison,
        accuracy=accuracy(*answers, frame[plan.target].to_numpy(), plan.target) if plan.target else None,
        latency_before=latency(own.predict, rows),
        latency_after=timed,
        web=web,
        libraries={name: version(name) for name in ("numpy", "onnxruntime")} | {"loopwright": __version__},
        verdicts=verdicts,
        passed=all(verdict.kept for verdict in verdicts),
    )
    shutil.rmtree(scratch)
    return report


def _sample(bundle: Bundle, plan: EdgePlan) -> tuple[pl.DataFrame, str]:
    if plan.rows is None:
        return drawn_rows(bundle), "the bundle's example, and rows drawn from its training profile column by column"
    return rows_of_file(plan.rows, bundle, [plan.target] if plan.target else []), str(plan.rows)


def _feed(model: standalone.EdgeModel, bundle: Bundle, frame: pl.DataFrame) -> dict[str, Array]:
    try:
        return model.feed(columns_of(frame, bundle.signature))
    except standalone.BadInput as error:
        raise Invalid(str(error), next_step="give rows that fit the model") from None


def _answers(model: standalone.EdgeModel, columns: Mapping[str, Array]) -> dict[str, Array]:
    try:
        return model.predict(columns)
    except standalone.BadInput as error:
        raise Invalid(str(error), next_step="give rows that fit the model") from None


def _plain(columns: Mapping[str, Array], count: int) -> list[dict[str, Any]]:
    """The first rows as a caller has them: plain values by name."""
    listed = {name: array[:count].tolist() for name, array in columns.items()}
    return [dict(zip(listed, values, strict=True)) for values in zip(*listed.values(), strict=True)]


def _write(folder: Path, bundle: Bundle, graph: bytes, applied: str, ref: str, digest: str) -> standalone.EdgeModel:
    """A folder that predicts, and its model as that folder's own code loads it."""
    (folder / standalone.GRAPH_FILE).write_bytes(graph)
    about = {
        "edge_format": standalone.EDGE_FORMAT,
        "model": ref,
        "bundle": digest,
        "task": bundle.manifest.task,
        "classes": bundle.manifest.classes,
        "precision": applied,
        "inputs": [_described(item) for item in bundle.signature.inputs],
        "outputs": _outputs(bundle, graph),
        "feeds": _feeds(bundle.manifest, graph),
        "example": dict(zip(bundle.signature.names, bundle.example_row(), strict=True)),
        "files": {standalone.GRAPH_FILE: hashlib.sha256(graph).hexdigest()},
    }
    (folder / "bundle.json").write_bytes(msgspec.json.format(msgspec.json.encode(about), indent=2))
    shutil.copyfile(standalone.__file__, folder / "bundle.py")
    try:
        return standalone.EdgeModel(folder)
    except standalone.Damaged as error:
        raise Corrupt(str(error), where=str(folder)) from error


def _described(item: Any) -> dict[str, Any]:
    """An input with every field, those that are as usual too."""
    return {name: getattr(item, name) for name in item.__struct_fields__}


def _outputs(bundle: Bundle, graph: bytes) -> list[dict[str, Any]]:
    shapes = {item.name: item for item in bundle.signature.outputs}
    return [_described(shapes[item.name]) for item in _session(graph).get_outputs() if item.name in shapes]


def _feeds(manifest: BundleManifest, graph: bytes) -> list[dict[str, Any]]:
    """The tensors of the graph, and the inputs that go into each."""
    inputs = {tensor: name for name, tensor in manifest.tensors.items()}
    matrix = manifest.layout is Layout.MATRIX
    return [
        {
            "tensor": item.name,
            "element": _ELEMENTS[item.type],
            "rank": len(item.shape),
            "matrix": matrix,
            "inputs": list(manifest.signature.names) if matrix else [inputs.get(item.name, item.name)],
        }
        for item in _session(graph).get_inputs()
    ]


def _session(graph: bytes) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
