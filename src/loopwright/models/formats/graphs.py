"""Work on ONNX graphs: outputs renamed to the task's convention, bounds on what a foreign graph may hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loopwright.core import Invalid
from loopwright.models.graph_bounds import check_bounds
from loopwright.models.model import Task

if TYPE_CHECKING:
    import onnx

RESERVED = ("label", "probability", "probabilities", "value")
_FLOATS = (1, 11)  # onnx.TensorProto.FLOAT, DOUBLE
_LABELS = (6, 7, 8)  # INT32, INT64, STRING


def check_graph(graph: onnx.ModelProto) -> None:
    """Refuse a graph that reaches outside itself.

    Raises:
        Invalid: it has operators of a domain that is not ONNX's own, weights in other files, or an absurd size.
    """
    check_bounds(graph)


def name_outputs(graph: onnx.ModelProto, task: Task, classes: tuple[str | int, ...] = ()) -> None:
    """Give the graph, in place, the outputs of its task's convention (see Task).

    A tensor of the graph that has the name of such an output, be it an input, gets `model_` before its name. With
    `classes` the label is the class of the largest score, the first of equals, as scikit-learn and LightGBM choose it;
    ONNX's own tree operators break ties otherwise.

    Raises:
        Invalid: the graph's outputs do not fit the task.
    """
    if any(item.type.WhichOneof("value") != "tensor_type" for item in graph.graph.output):
        raise Invalid("an output of the graph is not a tensor", next_step="convert classifiers with zipmap=False")
    if task is Task.OTHER:
        return
    for name in RESERVED:
        rename(graph.graph, name, f"model_{name}")
    if task is Task.REGRESSION:
        _name_value(graph)
    else:
        _name_class(graph, task, classes)


def tensors_of(graph: onnx.ModelProto, names: tuple[str, ...]) -> dict[str, str]:
    """The graph's input for each named input that it uses, after `name_outputs`."""
    weights = {item.name for item in graph.graph.initializer}
    found = {item.name for item in graph.graph.input} - weights
    pairs = {name: f"model_{name}" if name in RESERVED and name not in found else name for name in names}
    return {name: tensor for name, tensor in pairs.items() if tensor in found}


def rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Rename a tensor wherever the graph and the graphs inside it speak of it."""
    for item in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        if item.name == old:
            item.name = new
    for node in graph.node:
        for names in (node.input, node.output):
            for position, name in enumerate(names):
                if name == old:
                    names[position] = new
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                rename(inner, old, new)


def everywhere_in_utf8(graph: onnx.GraphProto) -> None:
    """Let operators on text take the locale that every machine has: the default one, en_US, many a container lacks."""
    from onnx import helper

    for node in graph.node:
        if node.op_type == "StringNormalizer":
            kept = [item for item in node.attribute if item.name != "locale"]
            del node.attribute[:]
            node.attribute.extend([*kept, helper.make_attribute("locale", "C.UTF-8")])


def _name_value(graph: onnx.ModelProto) -> None:
    from onnx import TensorProto, helper

    values = [item for item in graph.graph.output if item.type.tensor_type.elem_type in _FLOATS]
    if len(values) != 1 or len(graph.graph.output) != 1:
        raise Invalid(
            f"a regression model gives one number a row; this graph has {len(graph.graph.output)} outputs",
            next_step="say task='other' to serve the graph's outputs as they are",
        )
    flat = _constant(graph, "lw_flat", [-1])
    nodes = [
        helper.make_node("Cast", [values[0].name], ["lw_value"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["lw_value", flat], ["value"]),
    ]
    _finish(graph, nodes, [helper.make_tensor_value_info("value", TensorProto.FLOAT, [None])])


def _name_class(graph: onnx.ModelProto, task: Task, classes: tuple[str | int, ...]) -> None:
    from onnx import TensorProto, helper

    label, scores = _class_outputs(graph, task)
    nodes = [helper.make_node("Cast", [scores.name], ["lw_scores"], to=TensorProto.FLOAT)]
    nodes += _chosen(graph, classes) if classes else _given(graph, label)
    text = any(isinstance(item, str) for item in classes) or label.type.tensor_type.elem_type == TensorProto.STRING
    kind = TensorProto.STRING if text else TensorProto.INT64
    infos = [helper.make_tensor_value_info("label", kind, [None])]
    if task is Task.BINARY:
        positive = _constant(graph, "lw_positive", 1)
        nodes.append(helper.make_node("Gather", ["lw_scores", positive], ["probability"], axis=1))
        infos.append(helper.make_tensor_value_info("probability", TensorProto.FLOAT, [None]))
    else:
        nodes.append(helper.make_node("Identity", ["lw_scores"], ["probabilities"]))
        infos.append(helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, _width(scores)]))
    _finish(graph, nodes, infos)


def _chosen(graph: onnx.ModelProto, classes: tuple[str | int, ...]) -> list[Any]:
    from onnx import helper

    table = _constant(graph, "lw_classes", list(classes))
    return [
        helper.make_node("ArgMax", ["lw_scores"], ["lw_best"], axis=1, keepdims=0),
        helper.make_node("Gather", [table, "lw_best"], ["label"]),
    ]


def _given(graph: onnx.ModelProto, label: Any) -> list[Any]:
    from onnx import TensorProto, helper

    flat = _constant(graph, "lw_flat", [-1])
    text = label.type.tensor_type.elem_type == TensorProto.STRING
    same = helper.make_node("Identity", ["lw_label"], ["label"])
    whole = helper.make_node("Cast", ["lw_label"], ["label"], to=TensorProto.INT64)
    return [helper.make_node("Reshape", [label.name, flat], ["lw_label"]), same if text else whole]


def _class_outputs(graph: onnx.ModelProto, task: Task) -> tuple[Any, Any]:
    labels = [item for item in graph.graph.output if item.type.tensor_type.elem_type in _LABELS]
    scores = [item for item in graph.graph.output if item.type.tensor_type.elem_type in _FLOATS]
    if len(labels) != 1 or len(scores) != 1:
        raise Invalid(
            f"a {task} model gives one label and one matrix of probabilities; this graph gives "
            f"{', '.join(item.name for item in graph.graph.output)}",
            next_step="say task='other' to serve the graph's outputs as they are",
        )
    return labels[0], scores[0]


def _width(scores: Any) -> int | None:
    dimensions = scores.type.tensor_type.shape.dim
    return int(dimensions[-1].dim_value) or None if len(dimensions) == 2 else None


def _constant(graph: onnx.ModelProto, name: str, value: Any) -> str:
    import numpy as np
    from onnx import numpy_helper

    array = np.asarray(value)
    array = array.astype(object) if array.dtype.kind == "U" else array.astype(np.int64)
    graph.graph.initializer.append(numpy_helper.from_array(array, name))
    return name


def _finish(graph: onnx.ModelProto, nodes: list[Any], outputs: list[Any]) -> None:
    graph.graph.node.extend(nodes)
    del graph.graph.output[:]
    graph.graph.output.extend(outputs)
