"""The lineage of a ref as a drawing: boxes with links, from what is older (left) to what was made of it (right)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loopwright.ui.formats import short
from loopwright.ui.layered import arrange

BOX_W, BOX_H, GAP_X, GAP_Y, MARGIN = 176, 46, 84, 16, 14
_NAME_CHARACTERS = 22


@dataclass(frozen=True)
class Box:
    """A node, where it is drawn, and where it leads."""

    ref: str
    kind: str
    name: str
    href: str
    x: float
    y: float
    root: bool


@dataclass(frozen=True)
class Line:
    """An edge: a path in SVG's words, its role, and where the role is written."""

    path: str
    role: str
    x: float
    y: float


@dataclass(frozen=True)
class Drawing:
    """A whole drawing, in pixels."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]


def draw(root: str, nodes: Sequence[Any], edges: Sequence[Mapping[str, str]], href: Callable[[str], str]) -> Drawing:
    """The drawing of a trace.

    Args:
        root: the ref that was traced.
        nodes: with a `ref` each.
        edges: with `source`, `target` and `role` each.
        href: the page of a ref.
    """
    refs = list(
        dict.fromkeys(
            [root, *(node.ref for node in nodes), *(end for e in edges for end in (e["source"], e["target"]))]
        )
    )
    places = arrange(refs, [(edge["source"], edge["target"]) for edge in edges])
    top = min(place.row for place in places.values())
    corners = {
        ref: (MARGIN + place.layer * (BOX_W + GAP_X), MARGIN + (place.row - top) * (BOX_H + GAP_Y))
        for ref, place in places.items()
    }
    boxes = tuple(_box(ref, corners[ref], href, ref == root) for ref in refs)
    lines = tuple(_line(edge["role"], corners[edge["source"]], corners[edge["target"]]) for edge in edges)
    width = max(x for x, _ in corners.values()) + BOX_W + MARGIN
    height = max(y for _, y in corners.values()) + BOX_H + MARGIN
    return Drawing(width, height, boxes, lines)


def _box(ref: str, corner: tuple[float, float], href: Callable[[str], str], root: bool) -> Box:
    kind, _, name = ref.partition(":")
    shown = short(name)
    if len(shown) > _NAME_CHARACTERS:
        shown = shown[: _NAME_CHARACTERS - 9] + "…" + shown[-8:]
    return Box(ref, kind, shown, href(ref), *corner, root)


def _line(role: str, source: tuple[float, float], target: tuple[float, float]) -> Line:
    x1, y1 = source[0] + BOX_W, source[1] + BOX_H / 2
    x2, y2 = target[0] - 5, target[1] + BOX_H / 2
    bend = max((x2 - x1) / 2, 24)
    path = f"M{x1:.0f},{y1:.1f} C{x1 + bend:.0f},{y1:.1f} {x2 - bend:.0f},{y2:.1f} {x2:.0f},{y2:.1f}"
    return Line(path, role, (x1 + x2) / 2, (y1 + y2) / 2 - 4)
