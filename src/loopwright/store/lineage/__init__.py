"""Lineage: what was made from what."""

from loopwright.store.lineage.graph import Lineage
from loopwright.store.lineage.model import Direction, Edge, Node, Trace

__all__ = ["Direction", "Edge", "Lineage", "Node", "Trace"]
