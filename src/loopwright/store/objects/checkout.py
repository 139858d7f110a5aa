"""Bring a tree back as a folder: whole or not at all, every byte verified."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from glob import escape
from itertools import groupby
from pathlib import Path

from loopwright.core import Conflict, Corrupt, check_path, is_id, new_id
from loopwright.store.objects.faults import spoken
from loopwright.store.objects.model import ObjectStore, Tree, TreeEntry
from loopwright.store.objects.trees import checked, read_tree

_CHUNK_BYTES = 1 << 20
_STALE_S = 24 * 3600.0


def checkout(objects: ObjectStore, digest: str, target: Path) -> None:
    """Write a tree's files to `target`, which appears at once and whole (a temporary folder, then a rename).

    Two processes may check the same tree out to the same place at once: the second finds it done.

    Raises:
        NotFound: no such tree, or one of its objects is missing.
        Corrupt: a file's bytes are not those that were put; nothing is left behind.
        Conflict: `target` is there already and is not an empty folder.
        Unavailable: the disk is full or read-only.
    """
    tree = read_tree(objects, digest)
    _refuse_occupied(target)
    temporary = target.parent / f".{target.name}.{new_id()}"
    with spoken(str(target.parent)):
        try:
            temporary.mkdir(parents=True)
            _sweep(target)
            _fill(objects, tree, temporary)
            _publish(temporary, target, tree)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _refuse_occupied(target: Path) -> None:
    if target.is_dir() and not any(target.iterdir()):
        return
    if target.exists() or target.is_symlink():
        raise Conflict(f"{target} exists already", next_step="choose a new folder, or remove this one")


def _sweep(target: Path) -> None:
    """Remove what checkouts to the same place left that were killed more than a day ago."""
    before = time.time() - _STALE_S
    for left in target.parent.glob(f".{escape(target.name)}.*"):
        with suppress(FileNotFoundError):  # its owner, or another checkout, was quicker
            if is_id(left.name.rsplit(".", 1)[-1]) and left.stat().st_mtime < before:
                shutil.rmtree(left, ignore_errors=True)


def _fill(objects: ObjectStore, tree: Tree, folder: Path) -> None:
    for parent in sorted({entry.path.rpartition("/")[0] for entry in tree.entries} - {""}):
        (folder / check_path(parent)).mkdir(parents=True, exist_ok=True)
    entries = sorted(tree.entries, key=lambda entry: (entry.pack, entry.offset))
    for pack, group in groupby(entries, key=lambda entry: entry.pack):
        if pack:
            _unpack(objects, pack, list(group), folder)
        else:
            for entry in group:
                _copy(objects, entry, folder / check_path(entry.path))


def _unpack(objects: ObjectStore, pack: str, entries: list[TreeEntry], folder: Path) -> None:
    data = objects.get(pack)
    for entry in entries:
        path = folder / check_path(entry.path)
        path.write_bytes(checked(entry, data[entry.offset : entry.offset + entry.size_bytes]))
        _set_mode(path, entry)


def _copy(objects: ObjectStore, entry: TreeEntry, path: Path) -> None:
    from blake3 import blake3

    hasher = blake3()
    with objects.open(entry.digest) as source, path.open("xb") as target:
        while chunk := source.read(_CHUNK_BYTES):
            hasher.update(chunk)
            target.write(chunk)
    if hasher.hexdigest() != entry.digest:
        raise Corrupt(
            f"the file {entry.path!r} in object {entry.digest} is damaged",
            next_step="restore the object from a backup; run loopwright fsck to see what else is damaged",
        )
    _set_mode(path, entry)


def _set_mode(path: Path, entry: TreeEntry) -> None:
    if entry.executable and os.name != "nt":
        path.chmod(path.stat().st_mode | 0o111)


def _publish(temporary: Path, target: Path, tree: Tree) -> None:
    try:
        temporary.rename(target)
    except OSError:
        # Another process was quicker, or (on Windows) the target is an empty folder.
        if target.is_dir() and not any(target.iterdir()):
            target.rmdir()
            temporary.rename(target)
        elif not _same_files(target, tree):
            raise Conflict(f"{target} exists already", next_step="choose a new folder, or remove this one") from None


def _same_files(folder: Path, tree: Tree) -> bool:
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    return sizes == {entry.path: entry.size_bytes for entry in tree.entries}
