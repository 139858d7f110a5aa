"""The lineage of a ref as a drawing: boxes with links, from what is older (left) to what was made of it (right)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from loopwright.ui.formats import short
from loopwright.ui.layered import Place, arrange

BOX_W, BOX_H, GAP_X, GAP_Y, MARGIN = 176, 46, 84, 16, 14
_NAME_CHARACTERS = 22
Corner = tuple[float, float]


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
    """An edge: a path in SVG's words, its role, and where the role is written: at the end with fewer edges."""

    path: str
    role: str
    x: float
    y: float
    anchor: str


@dataclass(frozen=True)
class Drawing:
    """A whole drawing, in pixels."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]


def draw(root: str, nodes: Sequence[str], edges: Sequence[Mapping[str, str]], href: Callable[[str], str]) -> Drawing:
    """The drawing of a trace.

    Args:
        root: the ref that was traced.
        nodes: the refs to draw.
        edges: with `source`, `target` and `role` each; those with an end that is not drawn are left out.
        href: the page of a ref.
    """
    refs = list(dict.fromkeys([root, *nodes]))
    known = set(refs)
    edges = [edge for edge in edges if edge["source"] in known and edge["target"] in known]
    found = arrange(refs, [(edge["source"], edge["target"]) for edge in edges])
    everything = [*found.places.values(), *(place for route in found.routes.values() for place in route)]
    top = min(place.row for place in everything)

    def corner(place: Place) -> tuple[float, float]:
        return MARGIN + place.layer * (BOX_W + GAP_X), MARGIN + (place.row - top) * (BOX_H + GAP_Y)

    corners = {ref: corner(place) for ref, place in found.places.items()}
    leaving, arriving = Counter(edge["source"] for edge in edges), Counter(edge["target"] for edge in edges)
    lines = tuple(
        _line(
            edge["role"],
            corners[edge["source"]],
            [corner(place) for place in found.routes[edge["source"], edge["target"]]],
            corners[edge["target"]],
            at_source=arriving[edge["target"]] > leaving[edge["source"]],
        )
        for edge in edges
    )
    boxes = tuple(_box(ref, corners[ref], href, ref == root) for ref in refs)
    width = max(x for x, _ in corners.values()) + BOX_W + MARGIN
    height = max(corner(place)[1] for place in everything) + BOX_H + MARGIN
    return Drawing(width, height, boxes, lines)


def _box(ref: str, corner: Corner, href: Callable[[str], str], root: bool) -> Box:
    kind, _, name = ref.partition(":")
    shown = short(name)
    if len(shown) > _NAME_CHARACTERS:
        shown = shown[: _NAME_CHARACTERS - 9] + "…" + shown[-8:]
    return Box(ref, kind, shown, href(ref), *corner, root)


def _line(role: str, source: Corner, passed: Sequence[Corner], target: Corner, *, at_source: bool) -> Line:
    """A curve from the right side of one box to the left side of another, through the places that it passes."""
    middle = BOX_H / 2
    points = [(source[0] + BOX_W, source[1] + middle)]
    for x, y in passed:
        points += [(x, y + middle), (x + BOX_W, y + middle)]
    points.append((target[0] - 5, target[1] + middle))
    path = f"M{points[0][0]:.0f},{points[0][1]:.1f}"
    for index, (near, far) in enumerate(pairwise(points)):
        path += f" L{far[0]:.0f},{far[1]:.1f}" if index % 2 else _bend(near, far)
    (x1, y1), (x2, y2) = points[0], points[1]
    return Line(path, role, x1 + 8, y1 - 5, "start") if at_source else Line(path, role, x2 - 12, y2 - 5, "end")


def _bend(near: Corner, far: Corner) -> str:
    half = max((far[0] - near[0]) / 2, 24)
    return f" C{near[0] + half:.0f},{near[1]:.1f} {far[0] - half:.0f},{far[1]:.1f} {far[0]:.0f},{far[1]:.1f}"
