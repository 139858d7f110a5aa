"""LightGBM's native boosters. Its scikit-learn classes go with scikit-learn's pipelines (see `sklearn`)."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from loopwright.core import Invalid
from loopwright.models.formats.contract import FORMATS, Converted
from loopwright.models.formats.graphs import name_outputs
from loopwright.models.formats.lightgbm import refuse_pandas_categories, rewrite_text
from loopwright.models.formats.mending import whole_number_attributes
from loopwright.models.formats.trees import MATRIX_INPUT, check_features
from loopwright.models.formats.xgboost import check_numbers
from loopwright.models.model import Input, Layout, Task

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    Array = np.ndarray[Any, Any]

_OPSET = 15


class LightGBM:
    """A `lightgbm.Booster`."""

    def accepts(self, model: Any) -> bool:
        kind = getattr(sys.modules.get("lightgbm"), "Booster", None)
        return kind is not None and isinstance(model, kind)

    def convert(self, model: Any, sample: pl.DataFrame, inputs: tuple[Input, ...], task: Task | None) -> Converted:
        from lightgbm import Booster
        from onnxmltools import convert_lightgbm
        from onnxmltools.convert.common.data_types import FloatTensorType

        check_numbers(inputs, "LightGBM")
        check_features(_names(model), model.num_feature(), inputs)
        refuse_pandas_categories(model, "the booster")
        text = model.model_to_string(num_iteration=model.best_iteration if model.best_iteration > 0 else -1)
        found, count = _task(text)
        if task is not None and task is not found:
            raise Invalid(f"the model is a {found} model, not a {task} one", next_step="leave `task` out")
        try:
            with warnings.catch_warnings(), whole_number_attributes():
                warnings.simplefilter("ignore")
                graph = convert_lightgbm(
                    Booster(model_str=rewrite_text(text)),
                    initial_types=[(MATRIX_INPUT, FloatTensorType([None, len(inputs)]))],
                    zipmap=False,
                    target_opset=_OPSET,
                )
        except Exception as error:  # the converter raises whatever its parts raise; the cause is named
            raise Invalid(f"the booster has no ONNX form: {type(error).__name__}: {error}") from error
        classes = tuple(range(count)) if found is not Task.REGRESSION else ()
        name_outputs(graph, found, classes)
        return Converted(graph, Layout.MATRIX, found, classes, lambda rows: _answers(model, rows, inputs, found))


def _names(model: Any) -> list[str] | None:
    """The features' names; none where LightGBM made them up."""
    names: list[str] = model.feature_name()
    return None if all(re.fullmatch(r"Column_\d+", name) for name in names) else names


def _task(text: str) -> tuple[Task, int]:
    found = re.search(r"^objective=(\w+)(.*)$", text, re.MULTILINE)
    name, rest = (found[1], found[2]) if found else ("", "")
    if name in ("multiclass", "multiclassova"):
        count = re.search(r"num_class:(\d+)", rest)
        return Task.MULTICLASS, int(count[1]) if count else 0
    if name in ("binary", "cross_entropy"):
        return Task.BINARY, 2
    if not name:
        raise Invalid(
            "the booster says no objective, and so not what its raw scores mean",
            next_step="train it with a named objective, or bundle it in a CustomPredictor",
        )
    return Task.REGRESSION, 0


def _answers(model: Any, rows: pl.DataFrame, inputs: tuple[Input, ...], task: Task) -> Mapping[str, Array]:
    import numpy as np
    import polars as pl

    matrix = rows.select(pl.col(item.name).cast(pl.Float64) for item in inputs).to_numpy()
    given = np.asarray(model.predict(np.ascontiguousarray(matrix)), dtype=np.float64)
    if task is Task.REGRESSION:
        return {"value": given.reshape(-1)}
    if task is Task.BINARY:
        return {"label": (given > 0.5).astype(np.int64), "probability": given}
    return {"label": given.argmax(axis=1), "probabilities": given}


FORMATS.register("lightgbm")(LightGBM())
