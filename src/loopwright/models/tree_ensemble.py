"""What a graph of trees computes: which operator, how sums become scores and labels, and what the outputs are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from loopwright.models.tree_graph import Graph, Node, Unreadable
from loopwright.models.tree_layout import list_of

if TYPE_CHECKING:
    import onnxruntime

_VALUE, _POSITIVE, _LOGISTIC, _RAW, _MANY, _MANY_LOGISTIC, _MANY_SOFTMAX = range(7)


@dataclass(frozen=True)
class Ensemble:
    """What a graph computes: its tree operator, how sums become scores, and the outputs in their order.

    `classes` are whole numbers or text; `outputs` name what each output is: `label`, `score` (of one target, or of the
    second class) or `scores`.
    """

    trees: Node
    form: int
    targets: int
    base: tuple[float, ...]
    averages: bool
    classes: tuple[int | str, ...]
    outputs: tuple[tuple[str, str], ...]


def read_ensemble(graph: Graph, session: onnxruntime.InferenceSession) -> Ensemble:
    """The ensemble that a graph is.

    Raises:
        Unreadable: it is something else.
    """
    check_input(session)
    inputs = session.get_inputs()
    traced = [_traced(graph, item.name) for item in session.get_outputs()]
    trees = traced[0][1]
    tables = {tuple(classes) for kind, _, classes in traced if kind == "label"}
    if any(node is not trees for _, node, _ in traced) or len(tables) > 1 or trees.inputs != [inputs[0].name]:
        raise Unreadable("outputs of several origins")
    kinds = [kind for kind, _, _ in traced]
    if ("score" in kinds) + ("scores" in kinds) + ("value" in kinds) != 1 or trees.domain != "ai.onnx.ml":
        raise Unreadable("the outputs are no answer of trees")
    names = [item.name for item in session.get_outputs()]
    outputs = tuple(zip(names, kinds, strict=True))
    if trees.operator == "TreeEnsembleRegressor" and kinds == ["value"]:
        return _regression(trees, outputs)
    if trees.operator == "TreeEnsembleClassifier" and "value" not in kinds:
        return _classification(trees, outputs, next(iter(tables), ()))
    raise Unreadable(f"an operator {trees.operator}")


def check_input(session: onnxruntime.InferenceSession) -> None:
    """Raises:
    Unreadable: a graph takes something else than one matrix of float32 of a certain width.
    """
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 2:
        raise Unreadable("the input is no matrix of float32")
    if not isinstance(inputs[0].shape[1], int):
        raise Unreadable("the input has no certain width")


def _traced(graph: Graph, name: str) -> tuple[str, Node, list[int | str]]:
    """What an output is, the tree operator it comes from, and the classes of labels."""
    import numpy as np

    node = graph.makers.get(name)
    constant = graph.constants.get(node.inputs[-1]) if node and node.inputs else None
    if node and node.operator == "Reshape" and isinstance(constant, np.ndarray) and constant.tolist() == [-1]:
        return "value", _source(graph, node.inputs[0], 0), []
    if node and node.operator == "Gather" and isinstance(constant, np.ndarray):
        if constant.shape == () and constant == 1 and node.attributes == {"axis": 1}:
            return "score", _source(graph, node.inputs[0], 1), []
    elif node and node.operator == "Gather" and not node.attributes.get("axis"):
        table, best = graph.constants.get(node.inputs[0]), graph.makers.get(node.inputs[1])
        if table is not None and best and best.operator == "ArgMax" and best.attributes == {"axis": 1, "keepdims": 0}:
            classes = table.tolist() if isinstance(table, np.ndarray) else table
            return "label", _source(graph, best.inputs[0], 1), list(classes)
    return "scores", _source(graph, name, 1), []


def _source(graph: Graph, name: str, place: int) -> Node:
    """The tree operator whose output at a place a tensor is, but for operators that change nothing of it."""
    for _ in range(16):
        node = graph.makers.get(name)
        if node is None:
            break
        if node.operator.startswith("TreeEnsemble"):
            if node.outputs.index(name) == place:
                return node
            break
        same = node.operator == "Identity" or (node.operator == "Cast" and node.attributes.get("to") == 1)
        if not same or len(node.inputs) != 1 or node.domain not in ("", "ai.onnx"):
            break
        name = node.inputs[0]
    raise Unreadable(f"{name!r} comes from no tree operator")


def _regression(trees: Node, outputs: tuple[tuple[str, str], ...]) -> Ensemble:
    if trees.attributes.get("n_targets") != 1:
        raise Unreadable("several targets")
    return sums_of(trees, outputs[0][0])


def sums_of(trees: Node, name: str) -> Ensemble:
    """An operator that gives a sum for each target, as an output of that name.

    Raises:
        Unreadable: it gives something else.
    """
    given = trees.attributes
    targets = int(given["n_targets"])
    base = tuple(list_of(given, "base_values").tolist()) if "base_values" in given else ()
    kind = given.get("aggregate_function", b"SUM")
    if len(base) not in (0, targets) or kind not in (b"SUM", b"AVERAGE"):
        raise Unreadable("base values that do not fit, or another sum")
    if given.get("post_transform", b"NONE") != b"NONE":
        raise Unreadable("a transformed value")
    averages = kind == b"AVERAGE"
    if targets == 1:
        return Ensemble(trees, _VALUE, 1, base, averages, (), ((name, "value"),))
    return Ensemble(trees, _MANY, targets, base, averages, tuple(range(targets)), ((name, "scores"),))


def _classification(trees: Node, outputs: tuple[tuple[str, str], ...], classes: tuple[int | str, ...]) -> Ensemble:
    import numpy as np

    given = trees.attributes
    base = tuple(list_of(given, "base_values").tolist()) if "base_values" in given else ()
    ids, link = set(list_of(given, "class_ids").tolist()), given.get("post_transform", b"NONE")
    named = given.get("classlabels_int64s", given.get("classlabels_strings"))
    count = len(named) if isinstance(named, (list, np.ndarray)) else 0
    if count < 2 or (classes and len(classes) != count) or (count > 2 and any(kind == "score" for _, kind in outputs)):
        raise Unreadable("classes that do not fit")
    classes = classes or tuple(range(count))
    if count == 2 and ids == {0}:
        if len(base) > 1 or any(kind == "scores" for _, kind in outputs):
            raise Unreadable("base values of two classes")
        positive = not (list_of(given, "class_weights") < 0).any()
        plain = _POSITIVE if positive else _RAW
        form = {b"LOGISTIC": _LOGISTIC, b"NONE": plain, b"SOFTMAX": plain}.get(link)
        targets = 1
    else:
        form = {b"NONE": _MANY, b"LOGISTIC": _MANY_LOGISTIC, b"SOFTMAX": _MANY_SOFTMAX}.get(link)
        targets = count
    if form is None or len(base) not in (0, targets) or (count == 2 and targets == 2 and base):
        raise Unreadable("another transformation, or base values that do not fit")
    return Ensemble(trees, form, targets, base, False, classes, outputs)
