"""Bundles: a model as immutable bytes, in a folder.

bundle.json      the manifest: signature, parity, digests of the other files
model.onnx       the graph
profile.sketch   the profile of the training data's columns (stats.TableSketch)
outputs.sketch   the profile of the model's answers on the sample
environment.txt  the interpreter and libraries it was made with
example.json     one row as a V2 request
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core import Corrupt, DType, Invalid, digest_bytes, encode
from loopwright.models.environment import environment_lock, library_versions
from loopwright.models.formats import Converted, convert
from loopwright.models.frames import columns_of
from loopwright.models.model import DATATYPES, BundleManifest, Input, Output, Parity, Signature, Task
from loopwright.models.parity import prove, unproved
from loopwright.models.predictor import GRAPH_FILE, MANIFEST_FILE, Predictor, read_manifest, read_verified
from loopwright.models.signature import infer_inputs

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from loopwright.stats import TableSketch

PROFILE_FILE = "profile.sketch"
OUTPUTS_FILE = "outputs.sketch"
ENVIRONMENT_FILE = "environment.txt"
EXAMPLE_FILE = "example.json"
MAX_SAMPLE_ROWS = 5_000
_LIBRARIES = ("scikit-learn", "lightgbm", "skl2onnx", "onnxmltools", "onnx", "onnxruntime", "numpy", "torch")
_ELEMENTS = {
    "tensor(float)": DType.FLOAT32,
    "tensor(double)": DType.FLOAT64,
    "tensor(int64)": DType.INT64,
    "tensor(int32)": DType.INT64,
    "tensor(bool)": DType.BOOL,
    "tensor(string)": DType.STRING,
}


class Bundle:
    """A bundle in a folder. Reading one never runs anything that it holds."""

    def __init__(self, folder: Path) -> None:
        """Raises:
        NotFound: the folder holds no bundle.
        Corrupt: its manifest is damaged.
        """
        self.folder = Path(folder)
        self.manifest: BundleManifest = read_manifest(self.folder)

    @property
    def signature(self) -> Signature:
        """What the model takes and gives."""
        return self.manifest.signature

    @property
    def size_bytes(self) -> int:
        """The size of all of its files."""
        return sum((self.folder / name).stat().st_size for name in (MANIFEST_FILE, *self.manifest.files))

    def predictor(self, threads: int = 1) -> Predictor:
        """The model, loaded and verified.

        Raises:
            Corrupt: the graph is not the one that was built.
        """
        return Predictor.load(self.folder, threads)

    def profile(self) -> TableSketch:
        """The profile of the data that the model was trained on."""
        return self._sketch(PROFILE_FILE)

    def output_profile(self) -> TableSketch:
        """The profile of the model's answers on the sample it was built with."""
        return self._sketch(OUTPUTS_FILE)

    def verify(self) -> None:
        """Read every file and compare it with the manifest.

        Raises:
            Corrupt: a file is changed, missing, or not named by the manifest.
        """
        for name in self.manifest.files:
            read_verified(self.folder, self.manifest, name)
        known = {MANIFEST_FILE, *self.manifest.files}
        strange = sorted(
            path.relative_to(self.folder).as_posix()
            for path in self.folder.rglob("*")
            if path.is_file() and path.relative_to(self.folder).as_posix() not in known
        )
        if strange:
            raise Corrupt(
                f"the bundle holds {', '.join(strange)}, which its manifest does not name", where=str(self.folder)
            )

    def _sketch(self, name: str) -> TableSketch:
        from loopwright.stats import TableSketch

        return TableSketch.from_bytes(read_verified(self.folder, self.manifest, name))


def build_bundle(
    model: Any,
    sample: pl.DataFrame,
    *,
    task: Task | str | None = None,
    target: str = "",
    profile: TableSketch | pl.DataFrame | pl.LazyFrame | None = None,
    nullable: Sequence[str] = (),
    tolerance: float = 1e-4,
    metrics: Mapping[str, float] | None = None,
    training_data: Sequence[str] = (),
    folder: Path | None = None,
) -> Bundle:
    """Turn a trained model into a bundle, and prove that it still answers the same.

    Args:
        model: a fitted scikit-learn estimator or pipeline, a LightGBM classifier or regressor, a torch module, or the
            path of an ONNX file.
        sample: rows with exactly the model's inputs, as training saw them; up to 5,000 of them carry the proof. Rows
            with missing values belong in it where requests will have them.
        task: what the model answers; found out where the model says it; a torch module does not.
        target: the name of what is predicted.
        profile: the training data (a lazy frame is streamed), or its sketch; by default the sample.
        nullable: inputs that may be missing in requests although training saw none missing.
        tolerance: how far an output may be off: |difference| <= tolerance + tolerance * |original|.
        metrics: the model's scores on held-out rows.
        training_data: refs of the dataset versions that it was trained on.
        folder: where to write the bundle, a new folder; by default a temporary one.

    Raises:
        Invalid: the model has no ONNX form, the sample does not fit it, or parity fails: the worst row is shown.
    """
    if not sample.height:
        raise Invalid("the sample has no rows, and a bundle needs some to prove parity", next_step="pass 100 or more")
    sketch = _sketch_of(sample if profile is None else profile)
    inputs = infer_inputs(sample, sketch, nullable)
    rows = _proof_rows(sample, inputs)
    name, converted = convert(model, rows, inputs, Task(task) if task else None)
    if converted.tensors:
        inputs = tuple(item for item in inputs if item.name in converted.tensors)
    graph = converted.graph.SerializeToString(deterministic=True)
    manifest = BundleManifest(
        format=f"onnx/{name}",
        task=converted.task,
        layout=converted.layout,
        signature=Signature(inputs, ()),
        tensors=converted.tensors,
        target=target,
        classes=converted.classes,
        parity=unproved(),
        created_at=datetime.now(UTC),
        libraries=library_versions(*_LIBRARIES),
        training_data=tuple(training_data),
        metrics={key: float(value) for key, value in (metrics or {}).items()},
    )
    predictor = Predictor(manifest, graph)
    parity, outputs = _proof(converted, predictor, rows, inputs, tolerance)
    signature = Signature(inputs, _outputs(predictor, outputs))
    lock = environment_lock().encode()
    files = {
        GRAPH_FILE: graph,
        PROFILE_FILE: sketch.to_bytes(),
        OUTPUTS_FILE: _output_sketch(outputs).to_bytes(),
        ENVIRONMENT_FILE: lock,
        EXAMPLE_FILE: _example(rows, inputs),
    }
    digests = {path: digest_bytes(data) for path, data in files.items()}
    manifest = msgspec.structs.replace(
        manifest, parity=parity, signature=signature, files=digests, environment=digest_bytes(lock)
    )
    return _write(manifest, files, folder)


def _sketch_of(data: TableSketch | pl.DataFrame | pl.LazyFrame) -> TableSketch:
    from loopwright.stats import TableSketch

    if isinstance(data, TableSketch):
        return data
    from loopwright.data import sketch_of

    return sketch_of(data)


def _proof_rows(sample: pl.DataFrame, inputs: tuple[Input, ...]) -> pl.DataFrame:
    """Rows spread over the sample; each input that may be missing is missing in some of them."""
    import polars as pl

    rows = sample if sample.height <= MAX_SAMPLE_ROWS else sample.sample(MAX_SAMPLE_ROWS, seed=0)
    holed = [item.name for item in inputs if item.nullable and rows[item.name].null_count() == 0]
    holed = [name for name in holed if not (rows[name].dtype.is_float() and rows[name].is_nan().any())]
    if not holed:
        return rows
    extra = [
        rows.head(20).with_columns(pl.lit(None, dtype=rows.schema[name]).alias(name)).select(rows.columns)
        for name in holed
    ]
    return pl.concat([rows, *extra])


def _proof(
    converted: Converted, predictor: Predictor, rows: pl.DataFrame, inputs: tuple[Input, ...], tolerance: float
) -> tuple[Parity, dict[str, np.ndarray[Any, Any]]]:
    signature = Signature(inputs, ())

    def answer(frame: pl.DataFrame) -> dict[str, np.ndarray[Any, Any]]:
        return predictor.predict(columns_of(frame, signature))

    outputs = answer(rows)
    if converted.original is None:
        return unproved(), outputs
    try:
        return prove(converted.original, answer, rows, inputs, tolerance), outputs
    except (ValueError, TypeError, KeyError) as error:
        raise Invalid(
            f"the model itself cannot answer the sample: {str(error).splitlines()[0][:300]}",
            next_step="pass a sample with exactly the columns that the model was fitted on",
        ) from error


def _outputs(predictor: Predictor, outputs: Mapping[str, np.ndarray[Any, Any]]) -> tuple[Output, ...]:
    kinds = predictor.output_types()
    return tuple(
        Output(name, _ELEMENTS[kinds[name]], tuple(int(size) for size in values.shape[1:]))
        for name, values in outputs.items()
    )


def _output_sketch(outputs: Mapping[str, np.ndarray[Any, Any]]) -> TableSketch:
    from loopwright.stats import TableSketch

    sketch = TableSketch()
    for name, values in outputs.items():
        if name == "label":
            sketch.update(name, [str(value) for value in values.tolist()], kind="categorical")
        elif values.ndim == 1 and values.dtype.kind in "fiu":
            sketch.update(name, values)
    return sketch


def _example(rows: pl.DataFrame, inputs: tuple[Input, ...]) -> bytes:
    """The first row without missing values (else the first) as a request of the Open Inference Protocol."""
    whole = rows.drop_nulls()
    row = (whole if whole.height else rows).row(0, named=True)
    tensors = [
        {"name": item.name, "shape": [1], "datatype": DATATYPES[item.dtype], "data": [row[item.name]]}
        for item in inputs
    ]
    return msgspec.json.format(msgspec.json.encode({"inputs": tensors}), indent=2)


def _write(manifest: BundleManifest, files: Mapping[str, bytes], folder: Path | None) -> Bundle:
    target = Path(tempfile.mkdtemp(prefix="loopwright-bundle-")) if folder is None else Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    if any(target.iterdir()):
        raise Invalid(f"the folder {target} is not empty", next_step="name a new folder")
    for name, data in files.items():
        (target / name).write_bytes(data)
    (target / MANIFEST_FILE).write_bytes(msgspec.json.format(encode(manifest), indent=2))
    return Bundle(target)
