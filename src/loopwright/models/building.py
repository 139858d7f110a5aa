"""Building a bundle: the model becomes a graph, or stays Python for a worker process, and is proved on sample rows."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core import DType, Invalid, check_path, digest_bytes, digest_file, encode
from loopwright.models.bundle import ENVIRONMENT_FILE, EXAMPLE_FILE, FEATURES_FILE, OUTPUTS_FILE, PROFILE_FILE, Bundle
from loopwright.models.coding import Source, answers_of, classes_of, code_of, source_of, task_of
from loopwright.models.converting import confined_file, convert_elsewhere
from loopwright.models.environment import environment_lock, library_versions
from loopwright.models.formats import Converted, convert
from loopwright.models.frames import columns_of
from loopwright.models.isolated.predictor import IsolatedPredictor
from loopwright.models.isolated.process import Limits
from loopwright.models.model import (
    CODE_MANIFEST_FORMAT,
    DATATYPES,
    MANIFEST_FORMAT,
    BundleManifest,
    Code,
    Input,
    Layout,
    Output,
    Parity,
    Signature,
    Task,
    sealed,
)
from loopwright.models.opening import opened
from loopwright.models.parity import prove, unproved
from loopwright.models.predictor import GRAPH_FILE, MANIFEST_FILE, Predictor
from loopwright.models.scanning import refuse_dangerous
from loopwright.models.signature import infer_inputs

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from loopwright.features import FeatureLookup
    from loopwright.stats import TableSketch

    Array = np.ndarray[Any, Any]

MAX_SAMPLE_ROWS = 5_000
MAX_CODE_SAMPLE_ROWS = 500
_LIBRARIES = (
    *("scikit-learn", "lightgbm", "xgboost", "catboost", "keras", "torch", "mlflow", "safetensors"),
    *("skl2onnx", "onnxmltools", "onnx", "onnxruntime", "numpy"),
)
_ELEMENTS = {
    "tensor(float)": DType.FLOAT32,
    "tensor(double)": DType.FLOAT64,
    "tensor(int64)": DType.INT64,
    "tensor(int32)": DType.INT64,
    "tensor(bool)": DType.BOOL,
    "tensor(string)": DType.STRING,
}


@dataclass(frozen=True)
class _Made:
    """What a model became: `content` are the bundle's files of it, bytes or the files they are copied from."""

    format: str
    task: Task
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    answers: Mapping[str, Array]
    parity: Parity
    content: Mapping[str, bytes | Path]
    classes: tuple[str | int, ...] = ()
    layout: Layout = Layout.COLUMNS
    tensors: dict[str, str] = field(default_factory=dict)
    code: Code | None = None


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
    features: FeatureLookup | Sequence[FeatureLookup] = (),
    folder: Path | None = None,
    files: Path | str | None = None,
    code: Path | str | None = None,
    allow_code: bool = False,
    allow_pickle: bool = False,
    limits: Limits | None = None,
) -> Bundle:
    """Turn a trained model into a bundle, and prove that it still answers the same.

    Args:
        model: a fitted scikit-learn estimator or pipeline; a model of LightGBM, XGBoost, CatBoost or Keras; a torch
            module; a subclass of CustomPredictor (the class itself), or its name `module:Class` with `code`; or a
            path: an ONNX file or graph, a native file of LightGBM, XGBoost or CatBoost, a skops file, a folder of
            MLflow's or in Hugging Face's style, a pickle.
        sample: rows with exactly the model's inputs, as training saw them; up to 5,000 of them carry the proof (500
            where the model is Python). Rows with missing values belong in it where requests will have them. A column
            of arrays or lists of one length is an input of that shape.
        task: what the model answers; found out where the model says it; a torch module does not.
        target: the name of what is predicted.
        profile: the training data (a lazy frame is streamed), or its sketch; by default the sample.
        nullable: inputs that may be missing in requests although training saw none missing.
        tolerance: how far an output may be off: |difference| <= tolerance + tolerance * |original|.
        metrics: the model's scores on held-out rows.
        training_data: refs of the dataset versions that it was trained on.
        features: as `FeatureStore.lookup` gives them, where inputs are applied features: a server then finds these
            inputs itself, by an entity's key.
        folder: where to write the bundle, a new folder; by default a temporary one, which goes when this process ends.
        files: a file or folder that a CustomPredictor loads.
        code: the file or folder of a CustomPredictor's source; by default the file that its class stands in.
        allow_code: a folder may bring Python of its own; a worker process runs it.
        allow_pickle: the model may be, or hold, a pickle; a confined process loads it, never this one, and makes a
            graph of it. With `allow_code` it is kept as it is, for a worker process to answer.
        limits: what the worker of a model in Python may use.

    Raises:
        Invalid: the model has no ONNX form, the sample does not fit it, or parity fails: the worst row is shown.
        ModelFailed: a model in Python cannot be loaded, or cannot answer the sample.
        Forbidden: a pickle among the files would do what no model needs.
    """
    if not sample.height:
        raise Invalid("the sample has no rows, and a bundle needs some to prove parity", next_step="pass 100 or more")
    refuse_dangerous(item for item in (model, files) if isinstance(item, str | Path))
    sketch = _sketch_of(sample if profile is None else profile)
    confined = confined_file(model, allow_pickle and not allow_code)
    if confined is not None:
        _refuse_lookup(features)
        options: dict[str, Any] = {"task": task, "target": target, "nullable": list(nullable), "tolerance": tolerance}
        options |= {"metrics": dict(metrics or {}), "training_data": list(training_data)}
        return convert_elsewhere(confined, sample, sketch, options, _new_folder(folder))
    inputs = infer_inputs(sample, sketch, nullable)
    asked = Task(task) if task else None
    source = source_of(model, files, code, allow_code, allow_pickle)
    rows = _proof_rows(sample, inputs, MAX_SAMPLE_ROWS if source is None else MAX_CODE_SAMPLE_ROWS)
    if source is None:
        made = _graph_made(opened(model), rows, inputs, asked, tolerance)
    else:
        made = _code_made(source, rows, inputs, asked, tolerance, limits or Limits())
    lookup = _lookup_for(features, made.inputs)
    manifest = BundleManifest(
        manifest_format=_manifest_format(made),
        format=made.format,
        task=made.task,
        layout=made.layout,
        signature=Signature(made.inputs, made.outputs),
        tensors=made.tensors,
        target=target,
        classes=made.classes,
        parity=made.parity,
        created_at=datetime.now(UTC),
        libraries=library_versions(*_LIBRARIES),
        training_data=tuple(training_data),
        metrics={key: float(value) for key, value in (metrics or {}).items()},
        code=made.code,
        features=() if lookup is None else lookup.refs,
    )
    return _write(manifest, {**made.content, **_about(made, rows, sketch, lookup)}, folder)


def _about(
    made: _Made, rows: pl.DataFrame, sketch: TableSketch, lookup: FeatureLookup | None
) -> dict[str, bytes | Path]:
    """The bundle's files beside the model itself."""
    about: dict[str, bytes | Path] = {
        PROFILE_FILE: sketch.to_bytes(),
        OUTPUTS_FILE: _output_sketch(made.answers).to_bytes(),
        ENVIRONMENT_FILE: environment_lock().encode(),
        EXAMPLE_FILE: _example(rows, made.inputs),
    }
    if lookup is not None:
        from loopwright.features import write_lookup

        about[FEATURES_FILE] = write_lookup(lookup)
    return about


def _refuse_lookup(features: object) -> None:
    if features:
        raise Invalid("a bundle made of a pickle brings no feature lookup", next_step="give the fitted model itself")


def _lookup_for(features: FeatureLookup | Sequence[FeatureLookup], inputs: tuple[Input, ...]) -> FeatureLookup | None:
    from loopwright.features import FeatureLookup, merged

    lookups = [features] if isinstance(features, FeatureLookup) else list(features)
    return merged(lookups).for_inputs(item.name for item in inputs) if lookups else None


def _graph_made(
    model: Any, rows: pl.DataFrame, inputs: tuple[Input, ...], task: Task | None, tolerance: float
) -> _Made:
    name, converted = convert(model, rows, inputs, task)
    if converted.tensors:
        inputs = tuple(item for item in inputs if item.name in converted.tensors)
    graph = converted.graph.SerializeToString(deterministic=True)
    made = _Made(
        format=f"onnx/{name}",
        task=converted.task,
        inputs=inputs,
        outputs=(),
        answers={},
        parity=unproved(),
        content={GRAPH_FILE: graph},
        classes=converted.classes,
        layout=converted.layout,
        tensors=converted.tensors,
    )
    predictor = Predictor(_unproved_manifest(made), graph)
    parity, answers = _graph_proof(converted, predictor, rows, inputs, tolerance)
    return replace(made, parity=parity, answers=answers, outputs=_outputs(predictor, answers))


def _code_made(
    source: Source,
    rows: pl.DataFrame,
    inputs: tuple[Input, ...],
    task: Task | None,
    tolerance: float,
    limits: Limits,
) -> _Made:
    """The model as it will run: from its files alone, in a worker process."""
    made = _Made(
        format=f"python/{source.format}",
        task=task or Task.OTHER,
        inputs=inputs,
        outputs=(),
        answers={},
        parity=unproved(),
        content=source.content,
        code=code_of(source, limits),
    )
    with tempfile.TemporaryDirectory(prefix="loopwright-code-") as place:
        _lay(source.content, Path(place))
        with IsolatedPredictor(_unproved_manifest(made), Path(place), limits=limits) as predictor:
            answers = answers_of(predictor, rows)
            found = task_of(task, answers)
            parity = unproved()
            if source.original is not None:
                parity = prove(
                    source.original(inputs), lambda frame: answers_of(predictor, frame, False), rows, inputs, tolerance
                )
    classes = classes_of(found, answers, source.classes)
    return replace(made, task=found, classes=classes, parity=parity, answers=answers, outputs=_code_outputs(answers))


def _unproved_manifest(made: _Made) -> BundleManifest:
    return BundleManifest(
        format=made.format,
        task=made.task,
        layout=made.layout,
        signature=Signature(made.inputs, ()),
        tensors=made.tensors,
        classes=made.classes,
        parity=made.parity,
        created_at=datetime.now(UTC),
        code=made.code,
    )


def _manifest_format(made: _Made) -> int:
    """The oldest form that tells it all, so that older programs read what they can serve."""
    new = made.code is not None or any(item.shape for item in made.inputs)
    return CODE_MANIFEST_FORMAT if new else MANIFEST_FORMAT


def _sketch_of(data: TableSketch | pl.DataFrame | pl.LazyFrame) -> TableSketch:
    from loopwright.stats import TableSketch

    if isinstance(data, TableSketch):
        return data
    from loopwright.data import sketch_of

    return sketch_of(data)


def _proof_rows(sample: pl.DataFrame, inputs: tuple[Input, ...], limit: int) -> pl.DataFrame:
    """Rows spread over the sample; each input that may be missing is missing in some of them."""
    import polars as pl

    rows = sample if sample.height <= limit else sample.sample(limit, seed=0)
    holed = [item.name for item in inputs if item.nullable and rows[item.name].null_count() == 0]
    holed = [name for name in holed if not (rows[name].dtype.is_float() and rows[name].is_nan().any())]
    if not holed:
        return rows
    extra = [
        rows.head(20).with_columns(pl.lit(None, dtype=rows.schema[name]).alias(name)).select(rows.columns)
        for name in holed
    ]
    return pl.concat([rows, *extra])


def _graph_proof(
    converted: Converted, predictor: Predictor, rows: pl.DataFrame, inputs: tuple[Input, ...], tolerance: float
) -> tuple[Parity, dict[str, Array]]:
    signature = Signature(inputs, ())

    def answer(frame: pl.DataFrame) -> dict[str, Array]:
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


def _outputs(predictor: Predictor, outputs: Mapping[str, Array]) -> tuple[Output, ...]:
    kinds = predictor.output_types()
    return tuple(
        Output(name, _ELEMENTS[kinds[name]], tuple(int(size) for size in values.shape[1:]))
        for name, values in outputs.items()
    )


def _code_outputs(outputs: Mapping[str, Array]) -> tuple[Output, ...]:
    kinds = {"b": DType.BOOL, "i": DType.INT64, "u": DType.INT64, "O": DType.STRING}
    return tuple(
        Output(
            name,
            kinds.get(values.dtype.kind, DType.FLOAT64 if values.dtype.itemsize > 4 else DType.FLOAT32),
            tuple(int(size) for size in values.shape[1:]),
        )
        for name, values in outputs.items()
    )


def _output_sketch(outputs: Mapping[str, Array]) -> TableSketch:
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
        {
            "name": item.name,
            "shape": [1, *item.shape],
            "datatype": DATATYPES[item.dtype],
            "data": _flat(row[item.name]) if item.shape else [row[item.name]],
        }
        for item in inputs
    ]
    return msgspec.json.format(msgspec.json.encode({"inputs": tensors}), indent=2)


def _flat(value: Any) -> list[Any]:
    if isinstance(value, list):
        return [item for part in value for item in _flat(part)]
    return [value]


def _write(manifest: BundleManifest, files: Mapping[str, bytes | Path], folder: Path | None) -> Bundle:
    target = _new_folder(folder)
    _lay(files, target)
    digests = {name: digest_file(target / name) for name in files}
    lock = files[ENVIRONMENT_FILE]
    assert isinstance(lock, bytes)
    manifest = sealed(msgspec.structs.replace(manifest, files=digests, environment=digest_bytes(lock)))
    (target / MANIFEST_FILE).write_bytes(msgspec.json.format(encode(manifest), indent=2))
    return Bundle(target)


def _new_folder(folder: Path | None) -> Path:
    target = _temporary_folder() if folder is None else Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    if any(target.iterdir()):
        raise Invalid(f"the folder {target} is not empty", next_step="name a new folder")
    return target


def _temporary_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="loopwright-bundle-"))
    atexit.register(_remove_own, folder, os.getpid())
    return folder


def _remove_own(folder: Path, maker: int) -> None:
    """Remove a bundle's temporary folder, but not from a process that was forked off its maker."""
    if os.getpid() == maker:
        shutil.rmtree(folder, ignore_errors=True)


def _lay(files: Mapping[str, bytes | Path], folder: Path) -> None:
    for name, data in files.items():
        place = folder / check_path(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(data, Path):
            shutil.copyfile(data, place)
        else:
            place.write_bytes(data)
