"""Read everything that is kept and say what is damaged or missing. Nothing is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec

from loopwright.core import LoopwrightError, progress
from loopwright.store.objects import ObjectStat, ObjectStore, Tree, is_tree, parse_tree

if TYPE_CHECKING:
    from loopwright.store.stores import Stores
    from loopwright.store.tables import TableStore

_MANIFEST_MOST_BYTES = 256 << 20


class Problem(msgspec.Struct, frozen=True):
    """One thing that is damaged or missing: in which part, what it is, the fact, and what to do."""

    part: str
    subject: str
    fact: str
    next_step: str = ""


class FsckReport(msgspec.Struct, frozen=True):
    """What was looked at (a count per part) and what is wrong with it."""

    checked: dict[str, int]
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def fsck(stores: Stores) -> FsckReport:
    """Check the database, every object, every tree, every table, the online rows and the chain of events.

    Every byte is read, in constant memory but for the names of objects that a tree needs and that are not there.
    A part that does not answer is a problem in the report, not an error.
    """
    parts: tuple[tuple[str, Callable[[], Iterator[Problem | int]]], ...] = (
        ("database", lambda: _database(stores)),
        ("events", lambda: _events(stores)),
        ("objects", lambda: check_objects(stores.objects)),
        ("tables", lambda: check_tables(stores.tables)),
        ("online", lambda: _online(stores)),
    )
    counts: dict[str, int] = {}
    problems: list[Problem] = []
    with progress("fsck", float(len(parts))) as task:
        for part, check in parts:
            counts[part] = 0
            for found in _answered(part, check):
                if isinstance(found, Problem):
                    problems.append(found)
                else:
                    counts[part] += found
            task.advance(note=part)
    return FsckReport(counts, tuple(problems))


def check_objects(objects: ObjectStore) -> Iterator[Problem | int]:
    """Re-hash every object, and look for every object that a tree needs. Yields problems, and 1 for each object."""
    for stat in objects.iterate():
        yield 1
        if not objects.verify(stat.digest):
            yield Problem("objects", stat.digest, "its bytes are not those that were put", "restore it from a backup")
            continue
        tree = _tree(objects, stat)
        if tree is not None:
            yield from _tree_problems(objects, stat.digest, tree)


def check_tables(tables: TableStore) -> Iterator[Problem | int]:
    """Decode every row of the newest version of every table. Yields problems, and 1 for each table."""
    for key in tables.keys():  # noqa: SIM118  (a store, not a mapping)
        yield 1
        fact = _table_fact(tables, key)
        if fact:
            yield Problem("tables", key, fact, "restore the table's files from a backup")


def _answered(part: str, check: Callable[[], Iterator[Problem | int]]) -> Iterator[Problem | int]:
    try:
        yield from check()
    except LoopwrightError as error:
        yield Problem(part, part, error.message, error.next_step)


def _database(stores: Stores) -> Iterator[Problem | int]:
    yield 1
    for fact in stores.db.check():
        yield Problem("database", stores.db.dialect, fact, "restore the database from a backup")


def _events(stores: Stores) -> Iterator[Problem | int]:
    report = stores.events.verify()
    yield report.events
    if not report.ok:
        subject = report.first_bad.id if report.first_bad else "chain"
        yield Problem("events", subject, report.problem, "run loopwright audit verify")


def _online(stores: Stores) -> Iterator[Problem | int]:
    yield 1
    for fact in stores.online.check():
        yield Problem("online", "online store", fact, "remove it and materialise the feature views again")


def _tree(objects: ObjectStore, stat: ObjectStat) -> Tree | None:
    if stat.size_bytes > _MANIFEST_MOST_BYTES:
        return None
    with objects.open(stat.digest) as stream:
        head = stream.read(32)
    return parse_tree(objects.get(stat.digest)) if is_tree(head) else None


def _tree_problems(objects: ObjectStore, digest: str, tree: Tree) -> Iterator[Problem]:
    for holder in sorted(tree.holders):
        if not objects.exists(holder):
            paths = [entry.path for entry in tree.entries if entry.holder == holder]
            yield Problem(
                "objects",
                digest,
                f"the tree needs object {holder}, which is missing; it holds {paths[0]!r} and {len(paths) - 1} more",
                "restore the object from a backup, or ingest the files again",
            )


def _table_fact(tables: TableStore, key: str) -> str:
    """What is wrong with a table, in words; empty if nothing is."""
    import polars as pl

    try:
        promised = tables.rows(key)
        found = sum(frame.height for frame in tables.batches(key))
    except LoopwrightError as error:
        return error.message
    except (pl.exceptions.PolarsError, OSError) as error:
        return str(error).strip().split("\n", 1)[0]
    return "" if found == promised else f"its log promises {promised} rows, its files hold {found}"
