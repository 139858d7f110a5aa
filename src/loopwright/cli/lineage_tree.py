"""Lineage as a tree on the terminal."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from rich.text import Text
from rich.tree import Tree

from loopwright.cli.render import cell, console_of

if TYPE_CHECKING:
    from loopwright.store import Trace

_MAX_CHILDREN = 40


def print_tree(trace: Trace, direction: str) -> None:
    """Print what a trace found; a node that was shown before is not opened again."""
    nodes = {node.ref: node for node in trace.nodes}
    children: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for edge in trace.edges:
        near, far = (edge.target, edge.source) if direction == "up" else (edge.source, edge.target)
        children[near].append((edge.role, far))
    tree = Tree(_label(nodes.get(trace.root), trace.root, ""))
    _grow(tree, trace.root, nodes, children, {trace.root})
    console_of().print(tree)


def _grow(
    branch: Tree, ref: str, nodes: dict[str, Any], children: dict[str, list[tuple[str, str]]], shown: set[str]
) -> None:
    links = children.get(ref, [])
    for role, far in links[:_MAX_CHILDREN]:
        leaf = branch.add(_label(nodes.get(far), far, role))
        if far in shown:
            continue
        shown.add(far)
        _grow(leaf, far, nodes, children, shown)
    if len(links) > _MAX_CHILDREN:
        branch.add(Text(f"… and {len(links) - _MAX_CHILDREN} more (--json prints all)", style="dim"))


def _label(node: Any, ref: str, role: str) -> Text:
    label = Text()
    if role:
        label.append(f"{role}  ", style="dim")
    kind, _, name = ref.partition(":")
    label.append(f"{kind}:", style="cyan")
    label.append(name if len(name) < 64 else name[:16] + "…", style="bold")
    if node is not None and node.digest and node.digest != name:
        label.append(f"  {node.digest[:12]}", style="dim")
    if node is not None and node.attrs:
        label.append(f"  {cell(node.attrs, limit=110)}", style="dim")
    return label
