"""The words of lineage."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Direction = Literal["up", "down"]


class Node(msgspec.Struct, frozen=True):
    """A thing with a ref and, where it is immutable, the digest of its bytes."""

    ref: str
    digest: str = ""
    kind: str = ""
    attrs: dict[str, Any] = {}


class Edge(msgspec.Struct, frozen=True, order=True):
    """`target` was made from or with `source`; the role says how. Sources are upstream."""

    source: str
    target: str
    role: str


class Trace(msgspec.Struct, frozen=True):
    """What a walk reached, nearest first. `truncated` says that the depth or size limit cut it short."""

    root: str
    direction: Direction
    nodes: list[Node]
    edges: list[Edge]
    truncated: bool = False
