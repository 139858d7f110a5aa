"""The lineage graph: written in the transaction of the change, walked level by level."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Select, select

from loopwright.core import NotFound
from loopwright.store.db.database import Database
from loopwright.store.lineage.model import Direction, Edge, Node, Trace
from loopwright.store.lineage.tables import edges, nodes

_REFS_PER_QUERY = 500
_MAX_NODES = 20_000


class Lineage:
    """Nodes (a ref and a digest) and edges (a role), per project. Writing the same again changes nothing."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def node(
        self,
        tx: Connection,
        ref: str,
        *,
        digest: str = "",
        attrs: Mapping[str, Any] | None = None,
        project: str = "default",
    ) -> None:
        """Note a thing down. A digest or attributes that are not given leave those that are there."""
        kind = ref.partition(":")[0]
        row = {"project": project, "ref": ref, "kind": kind, "digest": digest, "attrs": dict(attrs or {})}
        given = [name for name in ("digest", "attrs") if row[name]]
        tx.execute(self._db.upsert(nodes, {}, ["project", "ref"], given), row)

    def edge(self, tx: Connection, source: str, target: str, role: str, project: str = "default") -> None:
        """Note that `target` (newer, downstream) was made from or with `source` (older, upstream)."""
        row = {"project": project, "source": source, "target": target, "role": role}
        tx.execute(self._db.upsert(edges, {}, list(row)), row)

    def ancestors(self, connection: Connection, refs: Iterable[str], project: str) -> set[str]:
        """These refs and everything that they came from, however far."""
        found = set(refs)
        level = sorted(found)
        while level:
            sources = {
                row.source
                for some in _slices(level)
                for row in connection.execute(select_edges(project, edges.c.target, some))
            }
            level = sorted(sources - found)
            found |= sources
        return found

    def forget(self, tx: Connection, refs: Sequence[str], project: str) -> None:
        """Remove nodes, and the edges at them."""
        for some in _slices(refs):
            mine = list(some)
            tx.execute(nodes.delete().where(nodes.c.project == project, nodes.c.ref.in_(mine)))
            for end in (edges.c.source, edges.c.target):
                tx.execute(edges.delete().where(edges.c.project == project, end.in_(mine)))

    def trace(self, ref: str, direction: Direction, *, depth: int = 64, project: str = "default") -> Trace:
        """Everything that `ref` came from (`up`) or that came from it (`down`): one query per level.

        Args:
            depth: how many levels to walk at most.

        Raises:
            NotFound: nothing is known of `ref`.
        """
        with self._db.read() as connection:
            walk = _Walk(connection, project, direction)
            found, links, truncated = walk.from_root(ref, depth)
            known = walk.nodes(found)
        if not links and ref not in known:
            raise NotFound(f"nothing is known of the origin or use of {ref!r}", next_step="check the ref")
        listed = [known.get(name) or Node(name, kind=name.partition(":")[0]) for name in found]
        return Trace(ref, direction, listed, links, truncated)


class _Walk:
    """One walk over a snapshot."""

    def __init__(self, connection: Connection, project: str, direction: Direction) -> None:
        self._connection, self._project = connection, project
        up = direction == "up"
        self._near, self._far = (edges.c.target, edges.c.source) if up else (edges.c.source, edges.c.target)
        self._far_name = "source" if up else "target"

    def from_root(self, root: str, depth: int) -> tuple[list[str], list[Edge], bool]:
        found: dict[str, None] = {root: None}
        links: dict[Edge, None] = {}
        level = [root]
        for _ in range(depth):
            level = self._step(level, found, links)
            if not level:
                return list(found), list(links), False
            if len(found) >= _MAX_NODES:
                break
        truncated = len(found) >= _MAX_NODES or self._goes_on(level)
        return list(found), list(links), truncated

    def _step(self, level: list[str], found: dict[str, None], links: dict[Edge, None]) -> list[str]:
        following: list[str] = []
        for edge in self._edges(level):
            links[edge] = None
            far = getattr(edge, self._far_name)
            if far not in found and len(found) < _MAX_NODES:
                found[far] = None
                following.append(far)
        return following

    def _goes_on(self, level: list[str]) -> bool:
        return next(self._edges(level), None) is not None

    def _edges(self, level: list[str]) -> Iterator[Edge]:
        for some in _slices(level):
            query = select_edges(self._project, self._near, some).order_by(self._near, self._far, edges.c.role)
            for row in self._connection.execute(query):
                yield Edge(row.source, row.target, row.role)

    def nodes(self, refs: Sequence[str]) -> dict[str, Node]:
        known: dict[str, Node] = {}
        for some in _slices(refs):
            query = select(nodes).where(nodes.c.project == self._project, nodes.c.ref.in_(some))
            for row in self._connection.execute(query):
                known[row.ref] = Node(row.ref, row.digest, row.kind, row.attrs)
        return known


def select_edges(project: str, near: Any, refs: Iterable[str]) -> Select[Any]:
    """The edges whose `near` end is one of `refs`."""
    return select(edges).where(edges.c.project == project, near.in_(list(refs)))


def _slices(refs: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(refs), _REFS_PER_QUERY):
        yield refs[start : start + _REFS_PER_QUERY]
