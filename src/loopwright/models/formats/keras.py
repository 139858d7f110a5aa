"""Keras 3 models, through Keras's own ONNX export: with torch as its backend, or TensorFlow and tf2onnx beside it.

A Keras model does not say what it answers, so the task is asked for; whether it gives logits or probabilities is read
off the graph, as for torch modules.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.core import DType, Invalid
from loopwright.models.formats.contract import FORMATS, Converted
from loopwright.models.formats.graphs import check_graph, name_outputs, rename, tensors_of
from loopwright.models.formats.torch_graph import MATRIX_INPUT, add_scores, classes_of, first_line, head_of, scores_of
from loopwright.models.formats.trees import matrix_of
from loopwright.models.model import Input, Layout, Task

if TYPE_CHECKING:
    import numpy as np
    import onnx
    import polars as pl

    Array = np.ndarray[Any, Any]


class Keras:
    """A `keras.Model` that takes one matrix of numbers, or one input per column."""

    def accepts(self, model: Any) -> bool:
        kind = getattr(sys.modules.get("keras"), "Model", None)
        return kind is not None and isinstance(model, kind)

    def convert(self, model: Any, sample: pl.DataFrame, inputs: tuple[Input, ...], task: Task | None) -> Converted:
        if task is None:
            raise Invalid(
                "a Keras model does not say what it answers",
                next_step="give task='binary', 'multiclass' or 'regression', or 'other' for its outputs as they are",
            )
        layout = _layout(model, inputs)
        answers = _answers(model, sample, inputs, layout)
        graph = _exported(model)
        taken = [item.name for item in graph.graph.input]
        names = [MATRIX_INPUT] if layout is Layout.MATRIX else [item.name for item in inputs]
        for old, new in zip(taken, names, strict=True):
            rename(graph.graph, old, new)
        check_graph(graph)
        head = head_of(graph, task, answers)
        classes = classes_of(head, task)
        add_scores(graph, head, task)
        name_outputs(graph, task, classes)
        tensors = tensors_of(graph, tuple(item.name for item in inputs)) if layout is Layout.COLUMNS else {}

        def original(rows: pl.DataFrame) -> Mapping[str, Array]:
            return scores_of(head, task, _answers(model, rows, inputs, layout))

        return Converted(graph, layout, task, classes, original, tensors)


def _layout(model: Any, inputs: tuple[Input, ...]) -> Layout:
    words = [item.name for item in inputs if item.dtype is DType.STRING]
    if words:
        raise Invalid(
            f"a Keras model takes numbers here, and {', '.join(map(repr, words))} holds text",
            next_step="number the categories before the model sees them",
        )
    if not getattr(model, "inputs", None):
        raise Invalid("the Keras model says no inputs", next_step="build it as Sequential or functional, with Input()")
    shapes = [tuple(item.shape[1:]) for item in model.inputs]
    if shapes == [(len(inputs),)] and not any(item.shape for item in inputs):
        return Layout.MATRIX
    if len(shapes) == len(inputs) and all(
        len(shape) == len(item.shape or (1,)) for shape, item in zip(shapes, inputs, strict=True)
    ):
        return Layout.COLUMNS
    raise Invalid(
        f"the Keras model takes {', '.join(map(str, shapes))}, and the sample has "
        f"{', '.join(f'{item.name} {list(item.shape)}' for item in inputs)}",
        next_step="give the sample a column per number of one matrix, or a column per input of the model, in its order",
    )


def _answers(model: Any, rows: pl.DataFrame, inputs: tuple[Input, ...], layout: Layout) -> list[Array]:
    import numpy as np

    if layout is Layout.MATRIX:
        given: Any = matrix_of(rows, inputs)
    else:
        given = [_tensor(rows[item.name], item) for item in inputs]
        given = given[0] if len(given) == 1 else given
    answers = model.predict(given, verbose=0)
    parts = list(answers) if isinstance(answers, list | tuple) else [answers]
    return [np.asarray(part, dtype=np.float64) for part in parts]


def _tensor(column: pl.Series, item: Input) -> Array:
    import numpy as np

    values = np.array(column.to_list(), dtype=np.float32)
    return values if item.shape else values.reshape(-1, 1)


def _exported(model: Any) -> onnx.ModelProto:
    import onnx

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "model.onnx"
        try:
            model.export(str(path), format="onnx", verbose=False)
        except Exception as error:  # the exporter raises whatever its parts raise; the cause is named
            raise Invalid(
                f"the Keras model has no ONNX form here: {first_line(error)}",
                next_step="take torch as Keras's backend (KERAS_BACKEND=torch), or bring the model as an ONNX file",
            ) from error
        graph: onnx.ModelProto = onnx.load(str(path))
    outputs = [item.name for item in graph.graph.output]
    for place, name in enumerate(outputs):
        rename(graph.graph, name, "output" if len(outputs) == 1 else f"output_{place}")
    graph.doc_string = ""
    return graph


FORMATS.register("keras")(Keras())
