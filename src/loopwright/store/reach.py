"""Which objects are reachable, and the removal of those that are not.

Each room says what it holds (`Room`): queries whose texts and JSON name digests. An object is reachable if a row
names its digest, or if a tree that a row names needs it. An object that nothing reaches stays for a while: a writer
puts it first and names it in a row later.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import msgspec
from sqlalchemy import ColumnElement, Connection, Select

from loopwright.store.objects import ObjectAge, ObjectStore, is_tree, parse_tree

_DIGEST = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_ROWS_AT_ONCE = 2000
_HEAD_BYTES = 32
_OF_RUN, _OF_REF = "of_run", "of_ref"


def of_run(column: ColumnElement[str]) -> Any:
    """The column of a holding with the id of the run that a row belongs to and would go with."""
    return column.label(_OF_RUN)


def of_ref(project: ColumnElement[str], ref: ColumnElement[str]) -> Any:
    """The column of a holding with the thing, other than a run, that a row belongs to and would go with."""
    return (project + " " + ref).label(_OF_REF)


class Holding(msgspec.Struct, frozen=True):
    """Rows of a room that hold objects.

    Args:
        reason: what they are, for people, such as `files of runs`.
        rows: selects the columns that name digests, anywhere in their text; perhaps also `of_run` and `of_ref`.
        trees: whether one of the digests may be a tree's.
    """

    reason: str
    rows: Select[Any]
    trees: bool = True


class Doomed(msgspec.Struct, frozen=True):
    """A run that may be removed for good."""

    id: str
    project: str
    seq: int


class Lapsed(msgspec.Struct, frozen=True):
    """A thing other than a run that was deleted and may be removed for good."""

    ref: str
    project: str

    @property
    def kind(self) -> str:
        """The ref's kind, such as `model`."""
        return self.ref.partition(":")[0]

    @property
    def key(self) -> str:
        """What `of_ref` makes of it."""
        return f"{self.project} {self.ref}"


class Lapse(msgspec.Struct, frozen=True):
    """What a room would give up besides runs.

    `kept` are refs that it keeps though they were deleted long ago, and why; `needs` the (project, ref) of what its
    deleted things need as long as they stay.
    """

    going: tuple[Lapsed, ...]
    kept: tuple[tuple[str, str], ...] = ()
    needs: tuple[tuple[str, str], ...] = ()


class Room(Protocol):
    """What a room's module `holding` says. Only `HOLDINGS` is required; of the functions a room has those that apply.

    roots(connection): (project, ref) of what must never lose what it came from.
    lapse(connection, project, before, is_protected): a `Lapse`, the things other than runs that were deleted before a
        time and may go. The rooms above are asked first, since what they give up may free what lies below.
    forget_lapsed(stores, tx, lapsed): remove those of them that are the room's and still deleted; returns these.
    forget_runs(stores, tx, runs): remove the room's rows that belong to runs which are being removed, in the same
        transaction, so that no row leads to a run that is gone.
    Tracking, whose runs and experiments go, says more: `expire`, `still_deleted`, `expire_experiments`,
    `forget_experiments` and `running_since`.
    """

    HOLDINGS: Sequence[Holding]


class Expiry(msgspec.Struct, frozen=True):
    """What a room would remove: runs, the refs that it keeps though they are deleted, and why."""

    runs: tuple[Doomed, ...]
    kept: tuple[tuple[str, str], ...]


class Reach:
    """What is held: digest to reason; and what only doomed things hold."""

    def __init__(self) -> None:
        self.held: dict[str, str] = {}
        self.doomed: dict[str, str] = {}

    def reason_to_keep(self, digest: str) -> str:
        """Who holds an object; empty if nobody does."""
        return self.held.get(digest, "")


def find_reach(
    connection: Connection, objects: ObjectStore, holdings: Iterable[Holding], doomed: frozenset[str] = frozenset()
) -> Reach:
    """What rows and trees hold now, as if the doomed (ids of runs, and keys of `Lapsed`) were gone.

    Memory: some hundred bytes for each object that is held.
    """
    found, trees = Reach(), set[str]()
    for holding in holdings:
        for digest, owners in _named(connection, holding):
            into = found.held if doomed.isdisjoint(owners) else found.doomed
            into.setdefault(digest, holding.reason)
            if holding.trees:
                trees.add(digest)
    for digest in trees:
        for part in _parts(objects, digest):
            if digest in found.held:
                found.held.setdefault(part, found.held[digest])
            if digest in found.doomed:
                found.doomed.setdefault(part, found.doomed[digest])
    return found


def _named(connection: Connection, holding: Holding) -> Iterator[tuple[str, tuple[str, ...]]]:
    rows = connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(holding.rows)
    for row in rows:
        owners = tuple(owner for name in (_OF_RUN, _OF_REF) if (owner := row._mapping.get(name)))
        for name, value in zip(row._fields, row, strict=True):
            if name not in (_OF_RUN, _OF_REF) and isinstance(value, str):
                for digest in _DIGEST.findall(value):
                    yield digest, owners


def _parts(objects: ObjectStore, digest: str) -> frozenset[str]:
    """The objects that a tree needs; none if the object is no tree, or is gone."""
    if not objects.exists(digest):
        return frozenset()
    with objects.open(digest) as stream:
        if not is_tree(stream.read(_HEAD_BYTES)):
            return frozenset()
    tree = parse_tree(objects.get(digest))
    return tree.holders if tree is not None else frozenset()


def removable(objects: ObjectStore, reach: Reach, before_s: float) -> Iterator[tuple[ObjectAge, str, bool]]:
    """Every object, why it stays or goes, and whether it goes."""
    for age in objects.ages():
        kept = reach.reason_to_keep(age.digest)
        if kept:
            yield age, kept, False
        elif age.put_s >= before_s:
            yield age, "put lately", False
        else:
            yield age, reach.doomed.get(age.digest, "nothing refers to it"), True
