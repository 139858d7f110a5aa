"""Two graphs in a row: what scikit-learn makes ready for a model of another library, and that model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loopwright.core import Invalid
from loopwright.models.formats.catboost import catboost_graph, is_catboost
from loopwright.models.formats.graphs import rename
from loopwright.models.formats.trees import MATRIX_INPUT
from loopwright.models.formats.xgboost import is_xgboost, xgboost_graph

if TYPE_CHECKING:
    import onnx

_READY = "lw_ready"


def tail_of(model: Any) -> Any:
    """The last step of a pipeline, where another library than scikit-learn made it and LightGBM did not; else None."""
    steps = getattr(model, "steps", None)
    last = steps[-1][1] if steps else None
    return last if is_xgboost(last) or is_catboost(last) else None


def joined(front: onnx.ModelProto, tail: Any) -> onnx.ModelProto:
    """The front's graph with the graph of `tail` behind it; changes `front`.

    Raises:
        Invalid: the front gives something else than one matrix of numbers, or the tail has no ONNX form.
    """
    from onnx import TensorProto, helper

    if len(front.graph.output) != 1 or front.graph.output[0].type.tensor_type.elem_type == TensorProto.STRING:
        raise Invalid("the steps before the model give something else than one matrix of numbers")
    back = _graph_of(tail)
    names = {name for node in back.graph.node for name in (*node.input, *node.output)}
    for name in sorted(names | {item.name for item in back.graph.initializer}):
        rename(back.graph, name, _READY if name == MATRIX_INPUT else f"lw_tail_{name}")
    front.graph.node.append(helper.make_node("Cast", [front.graph.output[0].name], [_READY], to=TensorProto.FLOAT))
    front.graph.node.extend(back.graph.node)
    front.graph.initializer.extend(back.graph.initializer)
    del front.graph.output[:]
    front.graph.output.extend(back.graph.output)
    domains = {item.domain for item in front.opset_import}
    front.opset_import.extend(item for item in back.opset_import if item.domain not in domains)
    return front


def _graph_of(tail: Any) -> onnx.ModelProto:
    graph: onnx.ModelProto
    graph = catboost_graph(tail)[0] if is_catboost(tail) else xgboost_graph(tail, None, None)[0]
    return graph
