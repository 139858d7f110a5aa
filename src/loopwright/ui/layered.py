"""A layered drawing of a directed graph without a browser: Sugiyama, Tagawa and Toda 1981, in its simplest form.

Layers by longest path, order inside a layer by barycentres, swept a few times. Pure: refs and edges in, places out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

_SWEEPS = 6


@dataclass(frozen=True)
class Place:
    """Where a node stands: its layer (from the left) and its row in it."""

    layer: int
    row: float


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


def arrange(nodes: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[str, Place]:
    """A place for each node; rows of a layer are one apart and centred on zero."""
    layer_of = layers_of(nodes, edges)
    layers: dict[int, list[str]] = {}
    for node in nodes:
        layers.setdefault(layer_of[node], []).append(node)
    near: dict[str, list[str]] = {node: [] for node in nodes}
    for source, target in edges:
        if source in near and target in near and source != target:
            near[source].append(target)
            near[target].append(source)
    rows = {node: float(index) for layer in layers.values() for index, node in enumerate(layer)}
    for sweep in range(_SWEEPS):
        for number in sorted(layers, reverse=bool(sweep % 2)):
            _order(layers[number], near, rows)
    return {
        node: Place(number, index - (len(layer) - 1) / 2)
        for number, layer in layers.items()
        for index, node in enumerate(layer)
    }


def _order(layer: list[str], near: Mapping[str, list[str]], rows: dict[str, float]) -> None:
    middle = {
        node: sum(rows[other] for other in near[node]) / len(near[node]) if near[node] else rows[node] for node in layer
    }
    layer.sort(key=lambda node: middle[node])
    for index, node in enumerate(layer):
        rows[node] = index - (len(layer) - 1) / 2
