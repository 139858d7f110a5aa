"""scikit-learn estimators and pipelines, with LightGBM's scikit-learn classes alone or as a step, through skl2onnx."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from loopwright.core import DType, Invalid
from loopwright.models.formats.contract import FORMATS, Converted
from loopwright.models.formats.graphs import everywhere_in_utf8, name_outputs, rename, tensors_of
from loopwright.models.formats.histograms import is_histogram, with_margins
from loopwright.models.formats.joining import joined, tail_of
from loopwright.models.formats.lightgbm import is_lightgbm, register_lightgbm, with_float32_splits
from loopwright.models.formats.mending import as_converted, whole_number_attributes
from loopwright.models.formats.text import parts_of, reads_text, splits_words, token_expression
from loopwright.models.formats.xgboost import is_xgboost
from loopwright.models.model import Input, Layout, Task
from loopwright.models.parity import cast_sample

if TYPE_CHECKING:
    import numpy as np
    import onnx
    import polars as pl

    Outputs = Mapping[str, np.ndarray[Any, Any]]

TARGET_OPSET = {"": 17, "ai.onnx.ml": 3}
MATRIX_INPUT = "features"
NUMERIC = frozenset({DType.BOOL, DType.INT64, DType.FLOAT32, DType.FLOAT64})


class ScikitLearn:
    """Estimators that follow scikit-learn's contract: `predict`, and `predict_proba` for classifiers."""

    def accepts(self, model: Any) -> bool:
        base = sys.modules.get("sklearn.base")
        return base is not None and isinstance(model, base.BaseEstimator) and not is_xgboost(model)

    def convert(self, model: Any, sample: pl.DataFrame, inputs: tuple[Input, ...], task: Task | None) -> Converted:
        found = task_of(model)
        if task is not None and task is not found:
            raise Invalid(f"the model is a {found} model, not a {task} one", next_step="leave `task` out")
        if shaped := [item.name for item in inputs if item.shape]:
            raise Invalid(
                f"scikit-learn's models take one value a column, and {', '.join(map(repr, shaped))} has several",
                next_step="give the sample a column for each value",
            )
        layout = layout_of(model, inputs)
        if layout is Layout.MATRIX:
            _check_width(model, inputs)
        prepared = _with_margins(model, sample, inputs) if is_histogram(model) else model
        graph = _graph(prepared, layout, inputs)
        classes = _classes(model) if found in (Task.BINARY, Task.MULTICLASS) else ()
        name_outputs(graph, found, classes)
        tensors = tensors_of(graph, tuple(item.name for item in inputs)) if layout is Layout.COLUMNS else {}
        return Converted(
            graph, layout, found, classes, lambda rows: predict_original(model, rows, found, inputs), tensors
        )


def task_of(model: Any) -> Task:
    """What kind of answer a fitted estimator gives.

    Raises:
        Invalid: it is not fitted, or is neither a classifier nor a regressor.
    """
    from sklearn.base import is_classifier, is_regressor
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    last = model.steps[-1][1] if hasattr(model, "steps") else model
    try:
        check_is_fitted(last)
    except NotFittedError:
        raise Invalid(f"the {type(model).__name__} is not fitted", next_step="call fit() first") from None
    if is_regressor(model):
        return Task.REGRESSION
    if is_classifier(model):
        if isinstance(model.classes_, list):
            raise _several(model)
        if not hasattr(model, "predict_proba"):
            raise Invalid(
                f"the classifier {type(last).__name__} gives no probabilities",
                next_step="use one with predict_proba, or wrap it in CalibratedClassifierCV",
            )
        return Task.BINARY if len(model.classes_) == 2 else Task.MULTICLASS
    raise Invalid(
        f"{type(model).__name__} is neither a classifier nor a regressor",
        next_step="bring it as an ONNX file, or answer with a CustomPredictor (docs/how-to/bundles.md)",
    )


def _several(model: Any) -> Invalid:
    return Invalid(
        f"the {type(model).__name__} predicts several targets at once",
        next_step="make a model and a bundle for each, or answer with a CustomPredictor (docs/how-to/bundles.md)",
    )


def _check_width(model: Any, inputs: tuple[Input, ...]) -> None:
    width = getattr(model, "n_features_in_", len(inputs))
    if width != len(inputs):
        names = ", ".join(getattr(model, "feature_names_in_", ())) or "in the order of its training"
        raise Invalid(
            f"the model takes {width} columns ({names}), and the sample has {len(inputs)}: "
            + ", ".join(item.name for item in inputs),
            next_step="pass a sample with exactly the columns that the model was fitted on",
        )


def layout_of(model: Any, inputs: tuple[Input, ...]) -> Layout:
    """One matrix where every input is a number and nothing in the model picks columns by name; else one tensor each."""
    by_name = any(_picks_by_name(part) for part in parts_of(model))
    return Layout.MATRIX if all(item.dtype in NUMERIC for item in inputs) and not by_name else Layout.COLUMNS


def predict_original(model: Any, rows: pl.DataFrame, task: Task, inputs: tuple[Input, ...]) -> Outputs:
    """The estimator's own answer, in the task's convention."""
    import numpy as np

    given = _as_the_model_saw_it(model, rows, inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of feature names that it was or was not fitted with
        if task is Task.REGRESSION:
            value = np.asarray(model.predict(given), dtype=np.float64).reshape(rows.height, -1)
            if value.shape[1] != 1:
                raise _several(model)
            return {"value": value[:, 0]}
        probabilities = np.asarray(model.predict_proba(given), dtype=np.float64)
        label = np.asarray(model.predict(given)).reshape(-1)
    if task is Task.BINARY:
        return {"label": label, "probability": probabilities[:, 1]}
    return {"label": label, "probabilities": probabilities}


def _as_the_model_saw_it(model: Any, rows: pl.DataFrame, inputs: tuple[Input, ...]) -> Any:
    """A frame for a model that was fitted on one, else the bare matrix."""
    import numpy as np
    import polars as pl

    if all(item.dtype in NUMERIC for item in inputs) and not hasattr(model, "feature_names_in_"):
        return rows.select(pl.all().cast(pl.Float64)).to_numpy()
    whole = [item.name for item in inputs if item.dtype is DType.INT64 and rows[item.name].null_count()]
    if reads_text(model):
        return rows.to_series(0).to_list()
    frame = rows.with_columns(pl.col(whole).cast(pl.Float64)) if whole else rows
    if is_lightgbm(model):
        return np.ascontiguousarray(frame.select(pl.all().cast(pl.Float64)).to_numpy())
    return frame


def _with_margins(model: Any, sample: pl.DataFrame, inputs: tuple[Input, ...]) -> Any:
    rows, narrowed = (_as_the_model_saw_it(model, frame, inputs) for frame in (sample, cast_sample(sample, inputs)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as above
        return with_margins(model, rows, narrowed)


def _picks_by_name(part: Any) -> bool:
    for item in getattr(part, "transformers_", ()):
        columns = item[2] if len(item) > 2 else ()
        if isinstance(columns, str) or any(isinstance(column, str) for column in columns):
            return True
    return False


def _classes(model: Any) -> tuple[str | int, ...]:
    return tuple(item if isinstance(item, str) else int(item) for item in model.classes_.tolist())


def _graph(model: Any, layout: Layout, inputs: tuple[Input, ...]) -> onnx.ModelProto:
    from skl2onnx import convert_sklearn

    register_lightgbm()
    tail = tail_of(model)
    prepared, lights = with_float32_splits(as_converted(model if tail is None else model[:-1]))
    last = prepared.steps[-1][1] if hasattr(prepared, "steps") else prepared
    options: dict[int, dict[str, Any]] = {
        id(part): {"zipmap": False} for part in (last, *lights) if hasattr(part, "predict_proba")
    }
    options |= {id(part): {"tokenexp": token_expression(part)} for part in parts_of(prepared) if splits_words(part)}
    try:
        with warnings.catch_warnings(), whole_number_attributes():
            warnings.simplefilter("ignore")
            graph: onnx.ModelProto = convert_sklearn(
                prepared,
                name="model",
                initial_types=_initial_types(layout, inputs),
                options=options,
                target_opset=TARGET_OPSET,
            )
    except Exception as error:  # the converter raises whatever its parts raise; the cause is named
        raise Invalid(
            f"{type(model).__name__} has no ONNX form: {_first_line(error)}",
            next_step="see which steps skl2onnx supports, or bring the model as an ONNX file",
        ) from error
    everywhere_in_utf8(graph.graph)
    graph = graph if tail is None else joined(graph, tail)
    if layout is Layout.COLUMNS:
        _restore_names(graph, inputs)
    return graph


def _restore_names(graph: onnx.ModelProto, inputs: tuple[Input, ...]) -> None:
    """The converter replaces signs such as spaces and brackets in names of inputs, which it keeps in order."""
    weights = {item.name for item in graph.graph.initializer}
    given = [item.name for item in graph.graph.input if item.name not in weights]
    if len(given) != len(inputs):
        return
    for old, item in zip(given, inputs, strict=True):
        if old != item.name:
            rename(graph.graph, old, item.name)


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:300]}" if text else type(error).__name__


def _initial_types(layout: Layout, inputs: tuple[Input, ...]) -> list[tuple[str, Any]]:
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType

    if layout is Layout.MATRIX:
        return [(MATRIX_INPUT, FloatTensorType([None, len(inputs)]))]

    def kind(item: Input) -> Any:
        if item.dtype is DType.STRING:
            return StringTensorType([None, 1])
        whole = item.dtype is DType.INT64 and not item.nullable
        return Int64TensorType([None, 1]) if whole else FloatTensorType([None, 1])

    return [(item.name, kind(item)) for item in inputs]


FORMATS.register("sklearn")(ScikitLearn())
