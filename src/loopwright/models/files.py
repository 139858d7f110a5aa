"""The files that versions hold, read one by one from the object store."""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO

from sqlalchemy import Connection

from loopwright.core import NotFound, is_digest
from loopwright.models.reading import living_versions
from loopwright.models.tables import model_versions
from loopwright.store import ObjectStore, Tree, TreeEntry
from loopwright.track import Entry


def refuse_foreign_bundle(connection: Connection, project: str, bundle: str) -> None:
    """Refuse a bundle that no version of this project holds: a digest from outside proves no right to read.

    Raises:
        NotFound: no version holds it.
    """
    held = living_versions(project).where(model_versions.c.bundle == bundle).limit(1) if is_digest(bundle) else None
    if held is None or connection.execute(held).first() is None:
        raise NotFound(f"no model version holds the bundle {bundle[:64]!r}", next_step="ask for the version again")


def entries_in(tree: Tree, folder: str) -> list[Entry]:
    """What lies straight in a folder of a tree, by path."""
    prefix = f"{folder}/" if folder else ""
    inside = (entry for entry in tree.entries if entry.path.startswith(prefix))
    return sorted(set(_straight(inside, prefix)), key=lambda item: item.path)


def _straight(entries: Iterable[TreeEntry], prefix: str) -> Iterable[Entry]:
    for entry in entries:
        name, slash, _ = entry.path[len(prefix) :].partition("/")
        yield Entry(prefix + name, bool(slash), 0 if slash else entry.size_bytes)


def open_entry(objects: ObjectStore, tree: Tree, path: str) -> tuple[TreeEntry, BinaryIO]:
    """A file of a tree, and the object that holds it, standing at the file's first byte; the caller closes it.

    Raises:
        NotFound: the tree has no such file, or its object is gone.
    """
    entry = tree.entry(path)
    if entry is None:
        raise NotFound(f"the version has no file {path[:200]!r}", next_step="list what there is first")
    stream = objects.open(entry.holder)
    stream.seek(entry.offset)
    return entry, stream
