"""Bring in a model that lies in a file or folder: judged first, then proved and registered.

What it may be: a bundle (a folder or a zip that `export` wrote), an ONNX file, a skops file, a native file of LightGBM,
XGBoost or CatBoost, a folder of MLflow's, of TensorFlow's (SavedModel) or in Hugging Face's style; a pickle only where
it is asked for by name.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from loopwright.core import Invalid, NotFound, check_model_name, parse_ref
from loopwright.models.bundle import Bundle
from loopwright.models.carrying import opened_bundle
from loopwright.models.findings import Level, Scan
from loopwright.models.model import ModelVersion
from loopwright.models.scanning import refuse_code, scan
from loopwright.models.signing import signatures_in, verify_folder

if TYPE_CHECKING:
    import polars as pl

SOURCE_TAG, SCAN_TAG = "loopwright.source", "loopwright.source_scan"
_ROWS = 64
_FLOATS = {1: "Float32", 11: "Float64"}  # onnx.TensorProto
_WHOLE, _TEXT, _TRUTH = (6, 7), 8, 9


class Registrar(Protocol):
    """Where the model goes: `ModelService`, on this machine or behind a server."""

    def register(self, name: str, bundle: Bundle, **about: Any) -> ModelVersion:
        """Give a bundle the next version number of a name."""
        ...

    def add_signature(self, ref: str, signature: str, public_key: str) -> ModelVersion:
        """Bring a signature over a version's bundle."""
        ...


class Leave(msgspec.Struct, frozen=True):
    """What the one who imports has asked for by name: pickles, Python source."""

    pickle: bool = False
    code: bool = False


class About(msgspec.Struct, frozen=True):
    """What is said of the model that is brought in.

    Attributes:
        sample: a CSV, Parquet or JSON file of rows with exactly the model's inputs, as training saw them.
        task, target: what it answers (found out where the model says it), and the name of that.
        tolerance: how far its ONNX form may be off.
        metrics, training_data, run, tags, description: kept with the version.
    """

    sample: Path | None = None
    task: str = ""
    target: str = ""
    tolerance: float = 1e-4
    metrics: Mapping[str, float] = {}
    training_data: Sequence[str] = ()
    run: str = ""
    tags: Mapping[str, str] = {}
    description: str = ""


def import_model(
    models: Registrar,
    path: Path,
    name: str,
    about: About,
    leave: Leave,
    report: Callable[[str], None] = lambda _line: None,
) -> ModelVersion:
    """Register the model at a path.

    Args:
        models: where it goes.
        path: a file or folder (see above).
        name: the registered name; it is made if it is new.
        about: what is said of it.
        leave: which formats that run code were asked for.
        report: is told what was assumed.

    Raises:
        NotFound: there is nothing at the path.
        Forbidden: it can run code and that was not asked for, or would do what no model needs.
        Corrupt: a bundle is damaged, or is not what one of its signatures says.
        Invalid: the model cannot be read, the sample does not fit it, its ONNX form is not proved, or what it was
            trained on is not the ref of a dataset's version.
    """
    check_model_name(name)
    path, about = path.absolute(), msgspec.structs.replace(about, training_data=_dataset_versions(about.training_data))
    with opened_bundle(path) as held:
        if held is not None:
            return _bring(models, held, path, name, about, leave)
    found = scan(path)
    refuse_code(found, path.name, allow_pickle=leave.pickle, allow_code=leave.code)
    with tempfile.TemporaryDirectory(prefix="loopwright-") as scratch:
        built = _build(path, about, leave, Path(scratch) / "bundle", report)
        return models.register(name, built, **_kept(about, _source(path, found)))


def _bring(models: Registrar, held: Bundle, path: Path, name: str, about: About, leave: Leave) -> ModelVersion:
    """A bundle as it is, with the signatures that it brings."""
    refuse_code(scan(held.folder), path.name, allow_pickle=leave.pickle, allow_code=leave.code)
    signatures = [(data, key) for data, key in signatures_in(held.folder) if key]
    for data, key in signatures:
        verify_folder(held.folder, data, key)
    version = models.register(name, held, **_kept(about))
    for data, key in signatures:
        version = models.add_signature(version.ref, data.decode(), key)
    return version


def _dataset_versions(refs: Sequence[str]) -> tuple[str, ...]:
    """The refs in full."""
    found = [parse_ref(ref, "dataset") for ref in refs]
    for ref in found:
        if not ref.selector:
            raise Invalid(f"{str(ref)!r} says no version", next_step=f"write {ref}@N (loopwright data log {ref.name})")
    return tuple(map(str, found))


def _source(path: Path, found: Scan) -> dict[str, str]:
    """Tags that say what a version was made of, and what a scan of that has found."""
    tags = {SOURCE_TAG: path.name}
    if found.executable:
        tools = ", ".join(f"{tool} {number}" for tool, number in sorted(found.tools.items()))
        worst = found.of(Level.SUSPICIOUS)
        what = f"; suspicious: {', '.join(item.what for item in worst[:10])}" if worst else "; nothing suspicious"
        tags[SCAN_TAG] = f"{', '.join(found.executable)}; scanned with {tools}{what}"
    return tags


def _kept(about: About, tags: Mapping[str, str] | None = None) -> dict[str, Any]:
    return {
        "run": about.run,
        "metrics": dict(about.metrics),
        "training_data": tuple(about.training_data),
        "tags": {**(tags or {}), **about.tags},
        "description": about.description,
    }


def _build(path: Path, about: About, leave: Leave, folder: Path, report: Callable[[str], None]) -> Bundle:
    from loopwright.models.building import build_bundle
    from loopwright.stats import TableSketch

    profile = None
    if about.sample is not None:
        sample = read_rows(about.sample)
    elif (found := _example(path)) is not None:
        sample = found
        report(f"no --sample: proved on the {sample.height} row(s) of the model's own input example")
    else:
        sample, profile = rows_for_graph(path), TableSketch()
        report(
            f"no --sample: run on {sample.height} made-up rows, so the bundle knows no ranges of its inputs and "
            "monitors have nothing to compare with"
        )
    return build_bundle(
        path,
        sample,
        task=about.task or None,
        target=about.target,
        profile=profile,
        tolerance=about.tolerance,
        training_data=about.training_data,
        folder=folder,
        allow_code=leave.code,
        allow_pickle=leave.pickle,
    )


def read_rows(path: Path) -> pl.DataFrame:
    """The rows of a CSV, Parquet or JSON file.

    Raises:
        NotFound: there is no such file.
        Invalid: it cannot be read.
    """
    import polars as pl

    readers = {".parquet": pl.read_parquet, ".csv": pl.read_csv, ".json": pl.read_json, ".ndjson": pl.read_ndjson}
    if not path.is_file():
        raise NotFound(f"there is no file {path}", next_step="check the path of the sample")
    reader: Any = readers.get(path.suffix.lower())
    if reader is None:
        raise Invalid(f"rows are read from {', '.join(readers)}, not {path.suffix or 'a file without an ending'!r}")
    try:
        found: pl.DataFrame = reader(path)
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise Invalid(f"the rows cannot be read: {str(error).splitlines()[0][:300]}", where=str(path)) from error
    return found


def _example(path: Path) -> pl.DataFrame | None:
    """The input example of an MLflow folder, if it has one that is a table."""
    import polars as pl

    file = path / "input_example.json"
    if not path.is_dir() or not file.is_file():
        return None
    try:
        told = msgspec.json.decode(file.read_bytes())
        rows = told.get("dataframe_split", told)
        return pl.DataFrame(rows["data"], schema=[str(name) for name in rows["columns"]], orient="row")
    except (msgspec.MsgspecError, KeyError, TypeError, AttributeError, ValueError, pl.exceptions.PolarsError):
        return None


def rows_for_graph(path: Path) -> pl.DataFrame:
    """Made-up rows that fit an ONNX file's inputs: normal numbers, zeros, empty text.

    Raises:
        Invalid: it is no ONNX file, or its inputs do not say what they take.
    """
    import numpy as np
    import polars as pl

    if path.suffix.lower() != ".onnx":
        raise Invalid(
            f"{path.name} does not say what its inputs look like",
            next_step="add --sample FILE: a CSV or Parquet file of 100 or more rows with exactly the model's inputs",
        )
    inputs = _graph_inputs(path)
    draw = np.random.default_rng(0)
    columns: dict[str, Any] = {}
    for name, kind, width in inputs:
        if kind in _FLOATS:
            values = draw.normal(size=(_ROWS, width or 1))
            names = [name] if width is None else [f"{name}_{number}" for number in range(width)]
            for column, data in zip(names, values.T, strict=True):
                columns[column] = pl.Series(data).cast(getattr(pl, _FLOATS[kind]))
        else:
            empty = {_TEXT: "", _TRUTH: False}.get(kind, 0)
            columns[name] = pl.Series([empty] * _ROWS)
    return pl.DataFrame(columns)


def _graph_inputs(path: Path) -> list[tuple[str, int, int | None]]:
    """Name, element type, and width (None for one value a row) of each input of a graph."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except DecodeError as error:
        raise Invalid(
            f"{path} is not a valid ONNX file: {error}", next_step="fetch it, or export the model, again"
        ) from None
    weights = {item.name for item in graph.initializer}
    found: list[tuple[str, int, int | None]] = []
    asked = [item for item in graph.input if item.name not in weights]
    if not asked:
        raise Invalid(
            f"{path} is not a model: its graph takes no inputs", next_step="fetch it, or export the model, again"
        )
    for item in asked:
        kind = item.type.tensor_type.elem_type
        sizes = [dimension.dim_value for dimension in item.type.tensor_type.shape.dim][1:]
        matrix = len(asked) == 1 and len(sizes) == 1 and kind in _FLOATS and 1 < sizes[0] <= 10_000
        if not matrix and (kind not in (*_FLOATS, *_WHOLE, _TEXT, _TRUTH) or sizes not in ([], [1])):
            raise Invalid(
                f"what the graph's input {item.name!r} takes cannot be made up",
                next_step="add --sample FILE: a CSV or Parquet file of rows with exactly the model's inputs",
            )
        found.append((item.name, kind, sizes[0] if matrix else None))
    return found
