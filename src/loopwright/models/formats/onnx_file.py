"""ONNX files and graphs brought as they are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.core import DType, Invalid, NotFound
from loopwright.models.formats.contract import FORMATS, Converted
from loopwright.models.formats.graphs import check_graph, name_outputs, tensors_of
from loopwright.models.graph_bounds import check_bounds
from loopwright.models.model import Input, Layout, Task

if TYPE_CHECKING:
    import onnx
    import polars as pl

MAX_FILE_BYTES = 2 << 30
NUMERIC = frozenset({DType.BOOL, DType.INT64, DType.FLOAT32, DType.FLOAT64})


class OnnxFile:
    """The path of an `.onnx` file, or a graph in memory. There is no original, so parity compares nothing."""

    def accepts(self, model: Any) -> bool:
        if isinstance(model, str | Path):
            return str(model).endswith(".onnx")
        module = sys.modules.get("onnx")
        return module is not None and isinstance(model, module.ModelProto)

    def convert(self, model: Any, sample: pl.DataFrame, inputs: tuple[Input, ...], task: Task | None) -> Converted:
        graph = _read(Path(model)) if isinstance(model, str | Path) else _copy(model)
        check_graph(graph)
        found = task or _task(graph)
        layout = layout_of(graph, inputs)
        name_outputs(graph, found)
        classes = tuple(range(2)) if found is Task.BINARY and _labels_are_whole(graph) else ()
        tensors = tensors_of(graph, tuple(item.name for item in inputs)) if layout is Layout.COLUMNS else {}
        return Converted(graph, layout, found, classes, None, tensors)


def _read(path: Path) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError

    if not path.is_file():
        raise NotFound(f"there is no file {path}", next_step="check the path")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise Invalid(f"{path} has {path.stat().st_size} bytes; an ONNX file holds at most {MAX_FILE_BYTES}")
    try:
        graph: onnx.ModelProto = onnx.load(str(path), load_external_data=False)
        if check_bounds(graph, path.parent):  # before anything else looks at it
            onnx.load_external_data_for_model(graph, str(path.parent))
        onnx.checker.check_model(graph)
    except (DecodeError, onnx.checker.ValidationError) as error:
        raise Invalid(
            f"{path} is not a valid ONNX file: {str(error).splitlines()[0]}",
            next_step="fetch it, or export the model, again",
        ) from error
    return graph


def _copy(model: Any) -> onnx.ModelProto:
    import onnx

    graph = onnx.ModelProto()
    graph.CopyFrom(model)
    return graph


def _task(graph: onnx.ModelProto) -> Task:
    """Binary or multiclass where there is a label and a matrix of scores, by its width; regression where there is one
    float per row; else other."""
    outputs = [(item.type.tensor_type.elem_type, item.type.tensor_type.shape.dim) for item in graph.graph.output]
    labels = [kind for kind, _ in outputs if kind in (6, 7, 8)]
    scores = [dims for kind, dims in outputs if kind in (1, 11)]
    if len(outputs) == 2 and len(labels) == 1 and len(scores) == 1 and len(scores[0]) == 2:
        width = scores[0][1].dim_value
        return {0: Task.OTHER, 2: Task.BINARY}.get(width, Task.MULTICLASS)
    if len(outputs) == 1 and len(scores) == 1 and [item.dim_value for item in scores[0][1:]] in ([], [1]):
        return Task.REGRESSION
    return Task.OTHER


def _labels_are_whole(graph: onnx.ModelProto) -> bool:
    return bool(graph.graph.output[0].type.tensor_type.elem_type == 7)


def layout_of(graph: onnx.ModelProto, inputs: tuple[Input, ...]) -> Layout:
    """A tensor per column where their names are the same; else one matrix of the columns.

    Raises:
        Invalid: the columns do not fit the graph's inputs.
    """
    weights = {item.name for item in graph.graph.initializer}
    tensors = [item for item in graph.graph.input if item.name not in weights]
    names = [item.name for item in tensors]
    if set(names) == {item.name for item in inputs}:
        shapes = {item.name: item.shape for item in inputs}
        for tensor in tensors:
            _check_shape(tensor, shapes[tensor.name])
        return Layout.COLUMNS
    if (
        len(tensors) == 1
        and all(not item.shape for item in inputs)
        and all(item.dtype in NUMERIC for item in inputs)
        and _width(tensors[0]) in (0, len(inputs))
    ):
        return Layout.MATRIX
    raise Invalid(
        f"the graph takes {', '.join(names)}, and the sample has the columns {', '.join(i.name for i in inputs)}",
        next_step="name the sample's columns like the graph's inputs, or, for one input [N, F], give F numeric columns",
    )


def _check_shape(tensor: Any, shape: tuple[int, ...]) -> None:
    """A dimension that the graph leaves open takes any size; a column of single values fits [N] and [N, 1]."""
    taken = [item.dim_value for item in tensor.type.tensor_type.shape.dim[1:]]
    wanted = [list(shape)] if shape else [[], [1]]
    if not any(
        len(taken) == len(item) and all(a in (0, b) for a, b in zip(taken, item, strict=True)) for item in wanted
    ):
        gives = f"{list(shape)}" if shape else "one"
        raise Invalid(
            f"the graph's input {tensor.name!r} takes {taken} values a row, where a column gives {gives}",
            next_step="give the sample a column of arrays of that shape, or, for one input [N, F], F numeric columns",
        )


def _width(tensor: Any) -> int:
    dimensions = tensor.type.tensor_type.shape.dim
    return int(dimensions[1].dim_value) if len(dimensions) == 2 else -1


FORMATS.register("onnx")(OnnxFile())
