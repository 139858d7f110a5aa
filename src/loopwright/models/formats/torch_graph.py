"""The graph of a torch module: exported, stripped of what tells of the machine, and given scores and a label."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loopwright.core import Invalid
from loopwright.models.formats.graphs import rename
from loopwright.models.model import Task

if TYPE_CHECKING:
    import numpy as np
    import onnx

    Array = np.ndarray[Any, Any]

MATRIX_INPUT = "features"
_OPSET = 18
_SAME_VALUES = frozenset({"Squeeze", "Unsqueeze", "Reshape", "Flatten", "Identity", "Cast", "Clip"})
_LOGITS = frozenset({"Gemm", "MatMul", "LogSoftmax"})  # a linear layer's own output is no probability
_SUM_TO_ONE = 1e-4


@dataclass(frozen=True)
class Head:
    """What a module's only output is: `width` numbers a row (1 also where it has no second dimension), and whether
    they are logits. Of no meaning for tasks other than classification."""

    width: int = 1
    logits: bool = False


def exported(module: Any, arguments: list[Any], names: list[str]) -> onnx.ModelProto:
    """The graph of a module for any number of rows; its outputs are `output`, or `output_0` and on.

    Raises:
        Invalid: torch cannot export it.
    """
    import torch
    from onnx import inliner

    rows = torch.export.Dim("rows", min=1)
    try:
        with _quiet():
            program = torch.onnx.export(
                module,
                tuple(arguments),
                input_names=names,
                dynamo=True,
                dynamic_shapes=tuple({0: rows} for _ in arguments),
                opset_version=_OPSET,
                verbose=False,
            )
            graph: onnx.ModelProto = program.model_proto
    except Exception as error:  # the exporter raises whatever its parts raise; the cause is named
        raise Invalid(
            f"{type(module).__name__} has no ONNX form: {_cause(error)}",
            next_step="see what torch.export takes, or bring the model as an ONNX file",
        ) from error
    if graph.functions:
        graph = inliner.inline_local_functions(graph)
    _strip(graph)
    _name_outputs(graph)
    return graph


def head_of(graph: onnx.ModelProto, task: Task, answers: list[Array]) -> Head:
    """What the module's output means.

    Raises:
        Invalid: it does not fit the task, or could be either logits or probabilities.
    """
    if task in (Task.OTHER, Task.REGRESSION):
        return Head()
    if len(answers) != 1 or answers[0].ndim > 2:
        shapes = ", ".join(str(answer.shape) for answer in answers)
        raise Invalid(
            f"a {task} module gives one tensor of scores, [N] or [N, classes]; this one gives {shapes}",
            next_step="say task='other' to serve its outputs as they are",
        )
    width = 1 if answers[0].ndim == 1 else answers[0].shape[1]
    if (width not in (1, 2)) if task is Task.BINARY else width < 2:
        expected = "1 or 2" if task is Task.BINARY else "at least 2"
        raise Invalid(f"a {task} module gives {expected} scores a row; this one gives {width}")
    return Head(width, logits=_gives_logits(_last_operator(graph), width, answers[0]))


def add_scores(graph: onnx.ModelProto, head: Head, task: Task) -> None:
    """Turn the output of a classifier, in place, into a label and a matrix of probabilities, a column per class."""
    from onnx import TensorProto, helper, numpy_helper

    if task in (Task.OTHER, Task.REGRESSION):
        return
    import numpy as np

    columns = max(2, head.width)
    shape = numpy_helper.from_array(np.array([-1, head.width], dtype=np.int64), "torch_shape")
    graph.graph.initializer.append(shape)
    nodes = [helper.make_node("Reshape", ["output", "torch_shape"], ["torch_scores"])]
    last = "torch_scores"
    if head.logits and head.width == 1:
        nodes.append(helper.make_node("Sigmoid", [last], ["torch_shares"]))
    elif head.logits:
        nodes.append(helper.make_node("Softmax", [last], ["torch_shares"], axis=1))
    if head.logits:
        last = "torch_shares"
    if head.width == 1:
        graph.graph.initializer.append(numpy_helper.from_array(np.ones(1, dtype=np.float32), "torch_one"))
        nodes.append(helper.make_node("Sub", ["torch_one", last], ["torch_rest"]))
        nodes.append(helper.make_node("Concat", ["torch_rest", last], ["torch_pair"], axis=1))
        last = "torch_pair"
    nodes.append(helper.make_node("ArgMax", [last], ["torch_label"], axis=1, keepdims=0))
    graph.graph.node.extend(nodes)
    del graph.graph.output[:]
    graph.graph.output.append(helper.make_tensor_value_info("torch_label", TensorProto.INT64, [None]))
    graph.graph.output.append(helper.make_tensor_value_info(last, TensorProto.FLOAT, [None, columns]))


def scores_of(head: Head, task: Task, answers: list[Array]) -> Mapping[str, Array]:
    """The module's own answers in the task's convention, computed without the graph."""
    import numpy as np
    from scipy.special import expit, softmax

    if task is Task.OTHER:
        return dict(zip(_output_names(len(answers)), answers, strict=True))
    if task is Task.REGRESSION:
        return {"value": answers[0].reshape(-1)}
    raw = answers[0].reshape(-1, head.width)
    if head.width == 1:
        positive = (expit(raw) if head.logits else raw)[:, 0]
        return {"label": (positive > 1.0 - positive).astype(np.int64), "probability": positive}
    shares = softmax(raw, axis=1) if head.logits else raw
    label = shares.argmax(axis=1)
    return (
        {"label": label, "probability": shares[:, 1]}
        if task is Task.BINARY
        else {"label": label, "probabilities": shares}
    )


def classes_of(head: Head, task: Task) -> tuple[str | int, ...]:
    """The classes are numbered: a network knows no names of them."""
    if task is Task.BINARY:
        return (0, 1)
    return tuple(range(head.width)) if task is Task.MULTICLASS else ()


def first_line(error: BaseException) -> str:
    """What an error of another library says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def _gives_logits(operator: str, width: int, answer: Array) -> bool:
    probabilities, other = ("Sigmoid", "Softmax") if width == 1 else ("Softmax", "Sigmoid")
    if operator == probabilities or operator in _LOGITS:
        return operator in _LOGITS
    inside = bool(((answer >= 0) & (answer <= 1)).all())
    if operator == other or (inside and (width == 1 or bool((abs(answer.sum(axis=1) - 1) < _SUM_TO_ONE).all()))):
        raise Invalid(
            f"the module's {width} scores a row end in {operator} and lie in [0, 1]: they could be logits or "
            "probabilities",
            next_step=f"return logits, or let forward() end in torch.{probabilities.lower()}",
        )
    return True


def _last_operator(graph: onnx.ModelProto) -> str:
    """The operator that made the output's values; what only reshapes is passed over."""
    makers = {name: node for node in graph.graph.node for name in node.output}
    node = makers.get(graph.graph.output[0].name)
    while node is not None and node.op_type in _SAME_VALUES and node.input[0] in makers:
        node = makers[node.input[0]]
    return node.op_type if node is not None else "its input"


def _output_names(count: int) -> list[str]:
    return ["output"] if count == 1 else [f"output_{place}" for place in range(count)]


def _name_outputs(graph: onnx.ModelProto) -> None:
    """An output may be the input itself, or stand twice; a node of its own gives it a name of its own."""
    from onnx import helper

    names = _output_names(len(graph.graph.output))
    taken = sorted({item.name for item in graph.graph.input} & set(names))
    if taken:
        raise Invalid(f"{taken[0]!r} is the name of an output and of a column", next_step="rename the column")
    for name in names:
        rename(graph.graph, name, f"torch_{name}")
    for item, name in zip(graph.graph.output, names, strict=True):
        graph.graph.node.append(helper.make_node("Identity", [item.name], [name]))
        item.name = name


def _strip(graph: onnx.ModelProto) -> None:
    """The exporter notes the user's files and lines beside each node; a bundle tells of no machine."""
    del graph.metadata_props[:]
    graph.doc_string = ""
    _strip_graph(graph.graph)


def _strip_graph(graph: onnx.GraphProto) -> None:
    for item in (graph, *graph.input, *graph.output, *graph.value_info, *graph.initializer, *graph.node):
        del item.metadata_props[:]
        item.doc_string = ""
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _strip_graph(inner)


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells of torchvision's absence and of its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _cause(error: BaseException) -> str:
    """The innermost error: the exporter wraps the real one."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)
