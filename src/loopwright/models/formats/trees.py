"""Boosted trees as one ONNX graph: `features` in, raw scores by ONNX's own operator, a link, the task's outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from loopwright.core import Invalid
from loopwright.models.model import Input, Task

if TYPE_CHECKING:
    import numpy as np
    import onnx
    import polars as pl

    Array = np.ndarray[Any, Any]

MATRIX_INPUT = "features"
OPSETS = {"": 17, "ai.onnx.ml": 3}
IR_VERSION = 8


class Link(StrEnum):
    """What makes an answer of a raw score."""

    IDENTITY = "identity"
    LOGISTIC = "logistic"
    SOFTMAX = "softmax"
    EXP = "exp"


@dataclass
class Trees:
    """The attributes of a TreeEnsembleRegressor, filled node by node."""

    targets: int
    base: list[float]
    nodes: dict[str, list[Any]] = field(default_factory=dict)
    leaves: dict[str, list[Any]] = field(default_factory=dict)
    count: int = 0

    def add_split(self, node: int, feature: int, value: float, then: int, otherwise: int, missing_then: bool) -> None:
        """A split of the current tree: what is below `value` goes to `then`, and so does a missing one if said."""
        self._node(node, "BRANCH_LT", feature, value, then, otherwise, missing_then)

    def add_leaf(self, node: int, weights: Sequence[tuple[int, float]]) -> None:
        """A leaf of the current tree: what it adds to each target."""
        self._node(node, "LEAF", 0, 0.0, 0, 0, False)
        for target, weight in weights:
            given = {"treeids": self.count, "nodeids": node, "ids": target, "weights": float(weight)}
            for name, value in given.items():
                self.leaves.setdefault(f"target_{name}", []).append(value)

    def end_tree(self) -> None:
        """The next nodes are another tree's."""
        self.count += 1

    def _node(
        self, node: int, mode: str, feature: int, value: float, then: int, otherwise: int, missing_then: bool
    ) -> None:
        given = {
            "treeids": self.count,
            "nodeids": node,
            "featureids": feature,
            "modes": mode,
            "values": float(value),
            "truenodeids": then,
            "falsenodeids": otherwise,
            "missing_value_tracks_true": int(missing_then),
        }
        for name, item in given.items():
            self.nodes.setdefault(f"nodes_{name}", []).append(item)


def tree_graph(trees: Trees, width: int, link: Link, task: Task) -> onnx.ModelProto:
    """A graph of trees for `width` features."""
    from onnx import helper

    given: dict[str, Any] = {**trees.nodes, **trees.leaves, "n_targets": trees.targets, "aggregate_function": "SUM"}
    node = helper.make_node(
        "TreeEnsembleRegressor", [MATRIX_INPUT], ["raw"], domain="ai.onnx.ml", base_values=trees.base, **given
    )
    return scored_graph([node], [], width, trees.targets, link, task)


def scored_graph(
    nodes: list[Any], weights: list[Any], width: int, targets: int, link: Link, task: Task
) -> onnx.ModelProto:
    """A graph of nodes that give `raw` [N, targets], with the link and the outputs that `name_outputs` takes."""
    from onnx import TensorProto, helper

    nodes = [*nodes, *_linked(link)]
    outputs = [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [None, targets])]
    if task in (Task.BINARY, Task.MULTICLASS):
        if targets == 1:
            weights = [*weights, helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])]
            nodes += [
                helper.make_node("Sub", ["one", "answer"], ["rest"]),
                helper.make_node("Concat", ["rest", "answer"], ["scores"], axis=1),
            ]
        else:
            nodes.append(helper.make_node("Identity", ["answer"], ["scores"]))
        nodes.append(helper.make_node("ArgMax", ["scores"], ["best"], axis=1, keepdims=0))
        outputs = [
            helper.make_tensor_value_info("best", TensorProto.INT64, [None]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, max(2, targets)]),
        ]
    taken = helper.make_tensor_value_info(MATRIX_INPUT, TensorProto.FLOAT, [None, width])
    graph = helper.make_graph(nodes, "model", [taken], outputs, weights)
    opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def check_features(names: Sequence[str] | None, width: int, inputs: tuple[Input, ...]) -> None:
    """The sample's columns stand for the model's features by their place.

    Raises:
        Invalid: there are more or fewer columns than features, or the order of named ones is another.
    """
    given = [item.name for item in inputs]
    if len(given) != width:
        raise Invalid(
            f"the model takes {width} features, and the sample has {len(given)} columns",
            next_step="pass a sample with exactly the model's features, in their order",
        )
    if names and set(names) == set(given) and list(names) != given:
        raise Invalid(
            "the sample's columns stand in another order than the model's features",
            next_step=f"sample.select({', '.join(map(repr, names[:8]))}{', ...' if width > 8 else ''})",
        )


def matrix_of(rows: pl.DataFrame, inputs: tuple[Input, ...]) -> Array:
    """The rows as a matrix of float32, NaN where a number is missing."""
    import numpy as np
    import polars as pl

    return rows.select(pl.col(item.name).cast(pl.Float32) for item in inputs).to_numpy().astype(np.float32)


def _linked(link: Link) -> list[Any]:
    from onnx import helper

    operators = {Link.IDENTITY: "Identity", Link.LOGISTIC: "Sigmoid", Link.SOFTMAX: "Softmax", Link.EXP: "Exp"}
    more: dict[str, Any] = {"axis": 1} if link is Link.SOFTMAX else {}
    return [helper.make_node(operators[link], ["raw"], ["answer"], **more)]
