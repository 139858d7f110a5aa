"""A layered drawing of a directed graph without a browser: Sugiyama, Tagawa and Toda 1981, in its simplest form.

Layers by longest path; an edge over several layers passes through a place of its own in each of them; order inside a
layer by barycentres, swept a few times. Pure: refs and edges in, places out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

_SWEEPS = 8
Part = tuple[str, str, int]
Node = str | Part


@dataclass(frozen=True)
class Place:
    """Where something stands: its layer (from the left) and its row in it; rows are one apart, centred on zero."""

    layer: int
    row: float


@dataclass(frozen=True)
class Arrangement:
    """A place for each node, and for each edge the places that it passes between its ends."""

    places: Mapping[str, Place]
    routes: Mapping[tuple[str, str], tuple[Place, ...]]


def layers_of(nodes: Sequence[str], edges: Iterable[tuple[str, str]]) -> dict[str, int]:
    """The layer of each node: one more than the furthest of its sources. An edge that closes a circle is ignored."""
    sources: dict[str, list[str]] = {node: [] for node in nodes}
    for source, target in edges:
        if source in sources and target in sources and source != target:
            sources[target].append(source)
    found: dict[str, int] = {}
    for node in nodes:
        _settle(node, sources, found)
    return found


def _settle(start: str, sources: Mapping[str, list[str]], found: dict[str, int]) -> None:
    """Give `start` and everything above it a layer, without recursion, since lineage can be deep."""
    stack, entered = [start], {start}
    while stack:
        node = stack[-1]
        if node in found:
            stack.pop()
            continue
        waiting = [source for source in sources[node] if source not in found and source not in entered]
        if waiting:
            entered.update(waiting)
            stack.extend(waiting)
            continue
        found[node] = max((found[source] + 1 for source in sources[node] if source in found), default=0)
        stack.pop()


def arrange(nodes: Sequence[str], edges: Sequence[tuple[str, str]]) -> Arrangement:
    """Places for nodes and the ways of edges between them; edges to unknown nodes are left out."""
    layer_of = layers_of(nodes, edges)
    layers: dict[int, list[Node]] = {}
    for node in nodes:
        layers.setdefault(layer_of[node], []).append(node)
    chains = {edge: _chain(edge, layer_of) for edge in edges if edge[0] in layer_of and edge[1] in layer_of}
    for chain in chains.values():
        for passed in chain:
            layers[passed[2]].append(passed)
    whole: list[list[Node]] = [[edge[0], *chain, edge[1]] for edge, chain in chains.items()]
    rows = _ordered(layers, whole)
    places = {node: Place(layer_of[node], rows[node]) for node in nodes}
    routes = {edge: tuple(Place(passed[2], rows[passed]) for passed in chain) for edge, chain in chains.items()}
    return Arrangement(places, routes)


def _chain(edge: tuple[str, str], layer_of: Mapping[str, int]) -> list[Part]:
    """The parts of an edge, one in each layer between its ends."""
    source, target = edge
    return [(source, target, layer) for layer in range(layer_of[source] + 1, layer_of[target])]


def _ordered(layers: Mapping[int, list[Node]], chains: Iterable[Sequence[Node]]) -> dict[Node, float]:
    """The row of each node and part, such that neighbours are near each other."""
    near: dict[Node, list[Node]] = {node: [] for layer in layers.values() for node in layer}
    for chain in chains:
        for left, right in pairwise(chain):
            near[left].append(right)
            near[right].append(left)
    rows: dict[Node, float] = {}
    for layer in layers.values():
        _place(layer, rows)
    for sweep in range(_SWEEPS):
        for number in sorted(layers, reverse=bool(sweep % 2)):
            middle = {
                node: sum(rows[other] for other in near[node]) / len(near[node]) if near[node] else rows[node]
                for node in layers[number]
            }
            layers[number].sort(key=middle.__getitem__)
            _place(layers[number], rows)
    return rows


def _place(layer: Sequence[Node], rows: dict[Node, float]) -> None:
    for index, node in enumerate(layer):
        rows[node] = index - (len(layer) - 1) / 2
