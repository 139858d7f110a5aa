"""What a graph does behind its trees, as a graph of its own: ONNX Runtime goes on with that, and the trees are ours.

XGBoost's classifiers, and its regressors with a link, are of this form: a tree operator that gives sums, and operators
that make probabilities of them, whose last bits are ONNX Runtime's own affair.
"""

from __future__ import annotations

from dataclasses import dataclass

from loopwright.models.tree_graph import Node, Unreadable, raw_fields, read_node

_NODE, _INPUT = 1, 11  # fields of GraphProto
_GRAPH = 7  # of ModelProto
_FLOAT = 1  # of TensorProto.DataType
_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Rest:
    """A graph without its trees.

    Attributes:
        trees: the operator that is left out.
        tensor: its output, which the graph takes instead, [rows, targets] of float32.
        graph: the bytes of the model.
    """

    trees: Node
    tensor: str
    graph: bytes


def behind_trees(model: bytes, taken: str) -> Rest:
    """Take the only tree operator out of a graph.

    Args:
        taken: the graph's only input, which nothing else may read.

    Raises:
        Unreadable: the graph has another form.
    """
    parts, found = [], list[Rest]()
    for number, raw, value in raw_fields(memoryview(model)):
        if number == _GRAPH:
            trees, body = _without_trees(value, taken)
            parts.append(_tagged(_GRAPH, body))
            found.append(Rest(trees, trees.outputs[0], b""))
        else:
            parts.append(bytes(raw))
    if len(found) != 1 or sum(map(len, parts)) > _MOST_BYTES:
        raise Unreadable("what is behind the trees is large, or there is more than one graph")
    return Rest(found[0].trees, found[0].tensor, b"".join(parts))


def _without_trees(graph: memoryview, taken: str) -> tuple[Node, bytes]:
    kept, trees = [], list[Node]()
    for number, raw, value in raw_fields(graph):
        if number == _NODE:
            node = read_node(value)
            if node.operator == "TreeEnsembleRegressor" and node.domain == "ai.onnx.ml":
                trees.append(node)
                continue
            if taken in node.inputs or node.operator in ("If", "Loop", "Scan"):  # whose bodies see it, too
                raise Unreadable("something else reads the input")
        if number != _INPUT:
            kept.append(bytes(raw))
    if len(trees) != 1 or trees[0].inputs != [taken] or len(trees[0].outputs) != 1:
        raise Unreadable("no tree operator, or more than one")
    targets = trees[0].attributes.get("n_targets")
    if not isinstance(targets, int) or targets < 1:
        raise Unreadable("trees without targets")
    return trees[0], b"".join([*kept, _tagged(_INPUT, _matrix(trees[0].outputs[0], targets))])


def _matrix(name: str, width: int) -> bytes:
    """The ValueInfoProto of float32 [rows, width]."""
    shape = _tagged(1, _tagged(2, b"rows")) + _tagged(1, b"\x08" + _varint(width))
    tensor = b"\x08" + _varint(_FLOAT) + _tagged(2, shape)
    return _tagged(1, name.encode()) + _tagged(2, _tagged(1, tensor))


def _tagged(number: int, body: bytes) -> bytes:
    """A field of bytes."""
    return _varint(number << 3 | 2) + _varint(len(body)) + body


def _varint(number: int) -> bytes:
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)
