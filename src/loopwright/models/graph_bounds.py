"""What an ONNX graph from outside may hold, judged before ONNX Runtime sees it.

The whole graph is walked: the bodies of If, Loop and Scan, the model's own functions, the tensors in attributes.
Nothing is computed and no other file is read; where weights lie in other files, only their names and sizes are judged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core import Invalid, check_path

if TYPE_CHECKING:
    import onnx

STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "ai.onnx.training"})
_BUILT_IN = frozenset({("com.microsoft", "Tokenizer")})  # what text vectorisers need, a part of ONNX Runtime itself
_EXTERNAL = 1  # onnx.TensorProto.EXTERNAL
_GRAPH, _GRAPHS, _TENSOR, _TENSORS, _SPARSE, _SPARSES = 5, 10, 4, 9, 11, 12  # onnx.AttributeProto
# The input that says how large an operator's output is, where its values are a shape or factors of one.
_SIZED = {"ConstantOfShape": 0, "Expand": 1, "Tile": 1, "OneHot": 1, "CenterCropPad": 1}
_BITS = {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128, 16: 16}


class GraphLimits(msgspec.Struct, frozen=True):
    """How large a graph may be: nodes in all, elements of one tensor, and of one that a few bytes make when the graph
    is loaded; graphs within graphs, rounds of a loop, bytes of weights in other files."""

    nodes: int = 200_000
    elements: int = 1 << 31
    made_elements: int = 1 << 27
    depth: int = 16
    rounds: int = 1_000_000
    external_bytes: int = (2 << 30) - (64 << 20)


LIMITS = GraphLimits()


def check_bounds(graph: onnx.ModelProto, folder: Path | None = None, limits: GraphLimits = LIMITS) -> list[str]:
    """Refuse a graph that reaches outside itself, or is of absurd size.

    Args:
        graph: the model, read without the weights that lie in other files.
        folder: where those weights may lie; None where there may be none.
        limits: what is too much.

    Returns:
        the files with its weights, relative to `folder`.

    Raises:
        Invalid: an operator is of a domain that is not ONNX's own; weights lie outside of `folder`, behind a link, or
            are not there whole; a tensor, loop or the graph is too large. The part of the graph is named.
    """
    own = {(item.domain, item.name): item for item in graph.functions}
    _Expansion(own, limits).check(graph.graph)
    walk = _Walk(limits, own.keys())
    walk.graph(graph.graph, 0)
    for function in graph.functions:
        walk.nodes(function.node, {}, 1)
    walk.domains(graph)
    return _outside(walk.external, folder, limits)


class _Walk:
    """Goes through a graph and all that is inside it; collects tensors whose values lie in other files."""

    def __init__(self, limits: GraphLimits, own: Set[tuple[str, str]]) -> None:
        self._limits, self._own = limits, own
        self._count = 0
        self._foreign: set[tuple[str, str]] = set()
        self.external: list[onnx.TensorProto] = []

    def domains(self, graph: onnx.ModelProto) -> None:
        """Refuse what was found of foreign operators, all at once."""
        if self._foreign:
            shown = ", ".join(f"{domain}:{kind}" for domain, kind in sorted(self._foreign)[:8])
            imported = sorted({item.domain for item in graph.opset_import} - STANDARD_DOMAINS)
            raise Invalid(
                f"the graph uses operators of a domain that is not ONNX's own: {shown}",
                where=", ".join(imported),
                next_step="export the model with ONNX's operators only; a bundle holds no others",
            )

    def graph(self, graph: onnx.GraphProto, depth: int) -> None:
        """A graph, and those inside it."""
        if depth > self._limits.depth:
            raise Invalid(f"graphs are nested more than {self._limits.depth} deep", where=graph.name)
        for item in (*graph.input, *graph.output, *graph.value_info):
            self._shape(item.name, _known(item))
        weights = {item.name: item for item in graph.initializer}
        for tensor in graph.initializer:
            self._tensor(tensor)
        for sparse in graph.sparse_initializer:
            self._sparse(sparse)
        self.nodes(graph.node, weights, depth)

    def nodes(self, nodes: Iterable[onnx.NodeProto], weights: dict[str, onnx.TensorProto], depth: int) -> None:
        """The nodes of a graph or function, whose constants so far are `weights`."""
        known = dict(weights)
        for node in nodes:
            self._count += 1
            if self._count > self._limits.nodes:
                raise Invalid(f"the graph has more than {self._limits.nodes:,} nodes")
            if node.domain not in STANDARD_DOMAINS and (node.domain, node.op_type) not in self._own | _BUILT_IN:
                self._foreign.add((node.domain, node.op_type))
            for attribute in node.attribute:
                self._attribute(node, attribute, depth)
            for item in node.attribute:
                if node.op_type == "Constant" and node.output and item.type == _TENSOR:
                    known[node.output[0]] = item.t
            self._sized(node, known)

    def _attribute(self, node: onnx.NodeProto, attribute: onnx.AttributeProto, depth: int) -> None:
        if attribute.type == _GRAPH:
            self.graph(attribute.g, depth + 1)
        for graph in attribute.graphs if attribute.type == _GRAPHS else ():
            self.graph(graph, depth + 1)
        if attribute.type == _TENSOR:
            self._tensor(attribute.t)
        for tensor in attribute.tensors if attribute.type == _TENSORS else ():
            self._tensor(tensor)
        if attribute.type == _SPARSE:
            self._sparse(attribute.sparse_tensor)
        for sparse in attribute.sparse_tensors if attribute.type == _SPARSES else ():
            self._sparse(sparse)
        if attribute.name == "shape" and node.op_type.startswith("Random"):
            self._shape(node.name or node.op_type, attribute.ints, self._limits.made_elements)

    def _sized(self, node: onnx.NodeProto, known: dict[str, onnx.TensorProto]) -> None:
        """Refuse constants that make an operator's output absurdly large, or a loop endless."""
        at = _SIZED.get(node.op_type, 0 if node.op_type == "Loop" else -1)
        tensor = known.get(node.input[at]) if 0 <= at < len(node.input) else None
        values = None if tensor is None or tensor.data_location == _EXTERNAL else _whole_numbers(tensor)
        if values is None:
            return
        name = node.name or node.op_type
        if node.op_type == "Loop":
            if values and values[0] > self._limits.rounds:
                raise Invalid(
                    f"the loop {name!r} runs {values[0]:,} times; at most {self._limits.rounds:,} are allowed"
                )
        else:
            self._shape(name, values, self._limits.made_elements)

    def _sparse(self, sparse: onnx.SparseTensorProto) -> None:
        self._tensor(sparse.values)
        self._tensor(sparse.indices)
        self._shape(sparse.values.name, sparse.dims)  # ONNX Runtime makes it dense

    def _tensor(self, tensor: onnx.TensorProto) -> None:
        self._shape(tensor.name, tensor.dims)
        if tensor.data_location == _EXTERNAL or tensor.external_data:
            self.external.append(tensor)
        elif tensor.raw_data and tensor.data_type in _BITS:
            needed = math.prod(tensor.dims) * _BITS[tensor.data_type] // 8
            if len(tensor.raw_data) != needed:
                raise Invalid(
                    f"the tensor {tensor.name!r} of shape {list(tensor.dims)} has {len(tensor.raw_data):,} bytes, "
                    f"not {needed:,}"
                )

    def _shape(self, name: str, sizes: Sequence[int], most: int | None = None) -> None:
        """Refuse more elements than one tensor may have; an unknown size (0 or below) counts as one."""
        most = self._limits.elements if most is None else most
        if math.prod(size for size in sizes if size > 0) > most:
            raise Invalid(
                f"the tensor {name!r} has the shape {list(sizes)}, more than {most:,} elements",
                next_step="export the model with a smaller or an unknown batch size",
            )


class _Expansion:
    """How many nodes a graph has once ONNX Runtime has put each function's body in place of its calls."""

    def __init__(self, functions: Mapping[tuple[str, str], onnx.FunctionProto], limits: GraphLimits) -> None:
        self._functions, self._limits = functions, limits
        self._sizes: dict[tuple[str, str], int] = {}
        self._open: set[tuple[str, str]] = set()

    def check(self, graph: onnx.GraphProto) -> None:
        """Refuse a function that calls itself, and calls that multiply beyond the limit."""
        if not self._functions:
            return
        if self._of(graph.node) > self._limits.nodes:
            raise Invalid(f"with its functions put in, the graph has more than {self._limits.nodes:,} nodes")

    def _of(self, nodes: Iterable[onnx.NodeProto]) -> int:
        total = 0
        for node in nodes:
            total += 1 + self._call((node.domain, node.op_type))
            for attribute in node.attribute:
                inner = [attribute.g] if attribute.type == _GRAPH else attribute.graphs
                total += sum(self._of(graph.node) for graph in inner)
        return total

    def _call(self, key: tuple[str, str]) -> int:
        if key not in self._functions:
            return 0
        if key in self._open or len(self._open) > 100:
            raise Invalid(f"the graph's function {key[1]!r} calls itself, or a hundred others one in another")
        if key not in self._sizes:
            self._open.add(key)
            self._sizes[key] = self._of(self._functions[key].node)
            self._open.discard(key)
        return self._sizes[key]


def _known(item: onnx.ValueInfoProto) -> list[int]:
    return [dimension.dim_value for dimension in item.type.tensor_type.shape.dim]


def _whole_numbers(tensor: onnx.TensorProto) -> list[int] | None:
    """The values of a small tensor of whole numbers."""
    from onnx import numpy_helper

    if tensor.data_type not in (6, 7) or math.prod(tensor.dims) > 64:
        return None
    try:
        return [int(value) for value in numpy_helper.to_array(tensor).ravel()]
    except (ValueError, TypeError):
        return None


def _outside(tensors: Sequence[onnx.TensorProto], folder: Path | None, limits: GraphLimits) -> list[str]:
    """The files in which tensors lie, each inside the folder and whole."""
    files: dict[str, Path] = {}
    total = 0
    for tensor in tensors:
        given = {item.key: item.value for item in tensor.external_data}
        if folder is None:
            raise Invalid(
                f"the weights of {tensor.name!r} lie in another file",
                next_step="save the model with its weights inside (save_as_external_data=False)",
            )
        location = given.get("location", "")
        files[location] = _inside(tensor, location, folder)
        total += _extent(tensor, given, files[location])
        if total > limits.external_bytes:
            raise Invalid(f"the weights in other files have more than {limits.external_bytes:,} bytes")
    return sorted(files)


def _inside(tensor: Any, location: str, folder: Path) -> Path:
    try:
        path = folder / check_path(location)
    except Invalid:
        raise Invalid(
            f"the weights of {tensor.name!r} lie in {location[:200]!r}, which is not inside the model's folder",
            next_step="save the model with its weights beside it, or inside",
        ) from None
    if any(part.is_symlink() for part in _way(path, folder)):
        raise Invalid(f"the weights of {tensor.name!r} lie behind the link {location!r}")
    if not path.is_file():
        raise Invalid(
            f"the weights of {tensor.name!r} lie in {location!r}, which is not there",
            next_step="bring that file too, in the folder of the .onnx file",
        )
    return path


def _way(path: Path, folder: Path) -> Iterator[Path]:
    while path != folder:
        yield path
        path = path.parent


def _extent(tensor: Any, given: dict[str, str], path: Path) -> int:
    """The bytes that a tensor takes of a file.

    Raises:
        Invalid: they are not whole numbers, reach beyond the file's end, or are not what its shape needs.
    """
    numbers = [given.get(key, "0") for key in ("offset", "length")]
    if not all(text.isascii() and text.isdecimal() and len(text) < 20 for text in numbers):
        raise Invalid(f"the weights of {tensor.name!r} have the offset {numbers[0]!r} and the length {numbers[1]!r}")
    size, (offset, length) = path.stat().st_size, (int(text) for text in numbers)
    length = length or size - offset
    needed = math.prod(tensor.dims) * _BITS.get(tensor.data_type, 0) // 8
    if length < 0 or offset + length > size or (needed and needed != length):
        raise Invalid(
            f"the weights of {tensor.name!r} need {needed:,} bytes from {offset:,} on, "
            f"and the file has {size:,} with a part of {length:,}"
        )
    return length
