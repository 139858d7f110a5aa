"""CatBoost, by its own ONNX export: numeric features. Categorical, text and embedding features have no ONNX form."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.core import Invalid
from loopwright.models.formats.contract import FORMATS, Converted
from loopwright.models.formats.graphs import name_outputs, rename
from loopwright.models.formats.trees import MATRIX_INPUT, check_features, matrix_of
from loopwright.models.formats.xgboost import check_numbers
from loopwright.models.model import Input, Layout, Task

if TYPE_CHECKING:
    import numpy as np
    import onnx
    import polars as pl

    Array = np.ndarray[Any, Any]

_PARTS = {
    "get_cat_feature_indices": "categorical",
    "get_text_feature_indices": "text",
    "get_embedding_feature_indices": "embedding",
}
_BINARY, _MULTI = ("Logloss", "CrossEntropy"), ("MultiClass", "MultiClassOneVsAll")
_EXPONENT = ("Poisson", "Tweedie", "LogLinQuantile")  # what a regressor of these answers is e to its raw score


class CatBoost:
    """CatBoostClassifier, CatBoostRegressor, or a bare CatBoost."""

    def accepts(self, model: Any) -> bool:
        return is_catboost(model)

    def convert(self, model: Any, sample: pl.DataFrame, inputs: tuple[Input, ...], task: Task | None) -> Converted:
        graph, found, classes = catboost_graph(model)
        if task is not None and task is not found:
            raise Invalid(f"the model is a {found} model, not a {task} one", next_step="leave `task` out")
        check_numbers(inputs, "CatBoost")
        check_features(model.feature_names_, len(model.feature_names_), inputs)
        name_outputs(graph, found, classes)

        def original(rows: pl.DataFrame) -> Mapping[str, Array]:
            return _answers(model, matrix_of(rows, inputs), found)

        return Converted(graph, Layout.MATRIX, found, classes, original)


def is_catboost(model: Any) -> bool:
    """Whether a model is one of CatBoost's own."""
    kind = getattr(sys.modules.get("catboost"), "CatBoost", None)
    return kind is not None and isinstance(model, kind)


def catboost_graph(model: Any) -> tuple[onnx.ModelProto, Task, tuple[str | int, ...]]:
    """The graph, what it answers, and its classes.

    Raises:
        Invalid: the model is not fitted, or has no ONNX form.
    """
    import onnx

    _check(model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        try:
            model.save_model(str(path), format="onnx", export_parameters={"onnx_domain": "ai.catboost"})
        except Exception as error:  # catboost raises one class for everything
            raise Invalid(f"CatBoost cannot write this model as ONNX: {str(error).splitlines()[0][:300]}") from error
        graph: onnx.ModelProto = onnx.load(str(path))
    found = _task(model)
    _tidy(graph, found)
    if has_log_scale(model) and getattr(model, "_estimator_type", "") == "regressor":
        _raise_e(graph)
    classes: tuple[str | int, ...] = ()
    if found is not Task.REGRESSION:
        classes = tuple(item if isinstance(item, str) else int(item) for item in model.classes_)
    return graph, found, classes


def _check(model: Any) -> None:
    if not model.is_fitted():
        raise Invalid(f"the {type(model).__name__} is not fitted", next_step="call fit() first")
    for method, kind in _PARTS.items():
        found: list[int] = getattr(model, method, list)()
        if found:
            names = [str(model.feature_names_[place]) for place in found]
            raise Invalid(
                f"the model has {kind} features ({', '.join(names[:5])}), which CatBoost's ONNX form has not",
                next_step="encode them before the model, or bundle it in a CustomPredictor that loads its .cbm file",
            )


def _task(model: Any) -> Task:
    loss = _loss(model)
    if loss in _MULTI:
        return Task.MULTICLASS
    if loss in _BINARY:
        return Task.BINARY
    if getattr(model, "_estimator_type", "") == "classifier":
        raise Invalid(
            f"CatBoost's loss {loss!r} has no ONNX form here", next_step=f"known: {', '.join(_BINARY + _MULTI)}"
        )
    return Task.REGRESSION


def has_log_scale(model: Any) -> bool:
    """Whether a model's raw scores are logarithms: CatBoostRegressor answers e to them, a bare CatBoost does not."""
    return _loss(model) in _EXPONENT


def _loss(model: Any) -> str:
    return str(model.get_all_params().get("loss_function", "RMSE")).partition(":")[0]


def _raise_e(graph: onnx.ModelProto) -> None:
    """Put e to the power of the raw score in place of the score, which CatBoost writes."""
    from onnx import helper

    [answer] = [item.name for item in graph.graph.output]
    rename(graph.graph, answer, f"{answer}_raw")
    graph.graph.output[0].name = answer
    graph.graph.node.append(helper.make_node("Exp", [f"{answer}_raw"], [answer]))


def _tidy(graph: onnx.ModelProto, task: Task) -> None:
    """Probabilities as a matrix, not as a list of maps; the input named as everywhere; the operators' own version."""
    from onnx import TensorProto, helper

    for node in [item for item in graph.graph.node if item.op_type == "ZipMap"]:
        scores = node.input[0]
        graph.graph.node.remove(node)
        kept = [item for item in graph.graph.output if item.name != node.output[0]]
        del graph.graph.output[:]
        graph.graph.output.extend([*kept, helper.make_tensor_value_info(scores, TensorProto.FLOAT, [None, None])])
    taken = graph.graph.input[0].name
    if taken != MATRIX_INPUT:
        rename(graph.graph, taken, MATRIX_INPUT)
    if task is Task.REGRESSION:
        for item in graph.graph.output:
            item.type.tensor_type.elem_type = TensorProto.FLOAT


def _answers(model: Any, matrix: Array, task: Task) -> Mapping[str, Array]:
    import numpy as np

    if task is Task.REGRESSION:
        return {"value": np.asarray(model.predict(matrix), dtype=np.float64).reshape(-1)}
    label = np.asarray(model.predict(matrix, prediction_type="Class")).reshape(-1)
    scores = np.asarray(model.predict(matrix, prediction_type="Probability"), dtype=np.float64)
    named = {"probability": scores[:, 1]} if task is Task.BINARY else {"probabilities": scores}
    return {"label": label, **named}


FORMATS.register("catboost")(CatBoost())
