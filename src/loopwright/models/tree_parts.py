"""A graph cut where its trees are, so that these are ours, and ONNX Runtime does what comes before and behind them.

Before them are the steps of a pipeline: scaling, encoding, joining columns. Behind them are XGBoost's links, which make
probabilities of sums, and whose last bits are ONNX Runtime's own affair. The pieces are made of the bytes of the whole,
without the library `onnx`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from loopwright.models.tree_graph import Node, Unreadable, raw_fields, read_node, read_text

_NODE, _INITIALIZER, _INPUT, _OUTPUT = 1, 5, 11, 12  # fields of GraphProto
_TENSOR_NAME, _VALUE_NAME = 8, 1  # of TensorProto, of ValueInfoProto
_GRAPH = 7  # of ModelProto
_FLOAT = 1  # of TensorProto.DataType
_WITH_BODIES = frozenset({"If", "Loop", "Scan"})  # which see more than their inputs
_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Rest:
    """What is behind the trees.

    Attributes:
        trees: the operator that is left out.
        tensor: its output, which the graph takes instead, [rows, targets] of float32.
        graph: the bytes of the model.
    """

    trees: Node
    tensor: str
    graph: bytes


@dataclass(frozen=True)
class Before:
    """What is before the trees, a model whose only output is what they read.

    Attributes:
        tensor: that output.
        graph: the bytes of the model.
    """

    tensor: str
    graph: bytes


@dataclass
class _Pieces:
    """A model: the bytes of its nodes, constants, inputs and outputs, each with what it is, and all others."""

    around: list[bytes] = field(default_factory=list)
    nodes: list[tuple[Node, bytes]] = field(default_factory=list)
    constants: dict[str, bytes] = field(default_factory=dict)
    inputs: dict[str, bytes] = field(default_factory=dict)
    outputs: list[bytes] = field(default_factory=list)
    others: list[bytes] = field(default_factory=list)

    def model(self, nodes: Iterable[tuple[Node, bytes]], inputs: Iterable[bytes], outputs: Iterable[bytes]) -> bytes:
        """A model of some of the nodes, with the constants that they read."""
        nodes = list(nodes)
        read = {name for node, _ in nodes for name in node.inputs}
        constants = [raw for name, raw in self.constants.items() if name in read]
        parts = [*(raw for _, raw in nodes), *constants, *inputs, *outputs, *self.others]
        return b"".join([*self.around, _tagged(_GRAPH, b"".join(parts))])

    def trees(self) -> Node:
        """The only tree operator."""
        found = [node for node, _ in self.nodes if _is_tree(node)]
        if len(found) != 1 or len(found[0].inputs) != 1:
            raise Unreadable("no tree operator, or more than one")
        return found[0]


def behind_trees(model: bytes, taken: str) -> Rest:
    """Take the only tree operator out of a graph that begins with it.

    Args:
        taken: the graph's only input, which nothing else may read.

    Raises:
        Unreadable: the graph has another form.
    """
    pieces = _pieces(model)
    trees = pieces.trees()
    rest = [(node, raw) for node, raw in pieces.nodes if node is not trees]
    targets = trees.attributes.get("n_targets")
    if trees.inputs != [taken] or len(trees.outputs) != 1 or not isinstance(targets, int) or targets < 1:
        raise Unreadable("the trees do not read the input, or give no sums")
    _check_reads(rest, pieces.inputs)
    graph = pieces.model(rest, [_matrix(_INPUT, trees.outputs[0], targets)], pieces.outputs)
    if len(graph) > _MOST_BYTES:
        raise Unreadable("what is behind the trees is large")
    return Rest(trees, trees.outputs[0], graph)


def before_trees(model: bytes) -> Before:
    """What makes the matrix that the only tree operator of a graph reads.

    Raises:
        Unreadable: the graph has another form, or begins with the trees.
    """
    pieces = _pieces(model)
    tensor = pieces.trees().inputs[0]
    first, _ = _split(pieces, tensor)
    return Before(tensor, pieces.model(first, pieces.inputs.values(), [_matrix(_OUTPUT, tensor, 0)]))


def from_trees(model: bytes, width: int) -> bytes:
    """The other part of a graph: the trees and what is behind them.

    Args:
        width: of the matrix that the trees read.

    Raises:
        Unreadable: it reads something else that was made before.
    """
    pieces = _pieces(model)
    tensor = pieces.trees().inputs[0]
    first, last = _split(pieces, tensor)
    _check_reads(last, {*pieces.inputs, *(name for node, _ in first for name in node.outputs if name != tensor)})
    return pieces.model(last, [_matrix(_INPUT, tensor, width)], pieces.outputs)


def _split(pieces: _Pieces, tensor: str) -> tuple[list[tuple[Node, bytes]], list[tuple[Node, bytes]]]:
    """The nodes that make a tensor, and the others, each in their order."""
    wanted, first, last = {tensor}, list[tuple[Node, bytes]](), list[tuple[Node, bytes]]()
    for node, raw in reversed(pieces.nodes):  # which stand in the order in which they are run
        if wanted.isdisjoint(node.outputs):
            last.append((node, raw))
        else:
            first.append((node, raw))
            wanted.update(node.inputs)
    if not first:
        raise Unreadable("the trees read the input")
    return first[::-1], last[::-1]


def _check_reads(nodes: Iterable[tuple[Node, bytes]], hidden: Iterable[str]) -> None:
    """Raises:
    Unreadable: some of the nodes read what they are not given.
    """
    names = set(hidden)
    if any(not names.isdisjoint(node.inputs) for node, _ in nodes):
        raise Unreadable("something else reads what the trees read, or what was made before")


def _pieces(model: bytes) -> _Pieces:
    found, graphs = _Pieces(), 0
    for number, raw, value in raw_fields(memoryview(model)):
        if number == _GRAPH:
            graphs += 1
            _read_graph(found, value)
        else:
            found.around.append(bytes(raw))
    if graphs != 1:
        raise Unreadable(f"{graphs} graphs")
    return found


def _read_graph(found: _Pieces, graph: memoryview) -> None:
    for number, raw, value in raw_fields(graph):
        if number == _NODE:
            node = read_node(value)
            if node.operator in _WITH_BODIES:
                raise Unreadable("an operator with a body")
            found.nodes.append((node, bytes(raw)))
        elif number == _INITIALIZER:
            found.constants[read_text(value, _TENSOR_NAME)] = bytes(raw)
        elif number == _INPUT:
            found.inputs[read_text(value, _VALUE_NAME)] = bytes(raw)
        elif number == _OUTPUT:
            found.outputs.append(bytes(raw))
        elif number == 2:  # the graph's name; what is told of tensors between is worked out anew
            found.others.append(bytes(raw))


def _is_tree(node: Node) -> bool:
    return node.domain == "ai.onnx.ml" and node.operator.startswith("TreeEnsemble")


def _matrix(number: int, name: str, width: int) -> bytes:
    """An input or output of float32 [rows, width]; 0 where that is not known."""
    shape = _tagged(1, _tagged(2, b"rows")) + _tagged(1, b"\x08" + _varint(width) if width else _tagged(2, b"width"))
    tensor = b"\x08" + _varint(_FLOAT) + _tagged(2, shape)
    return _tagged(number, _tagged(1, name.encode()) + _tagged(2, _tagged(1, tensor)))


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
