"""Trees: a folder kept as objects. A manifest lists the files; small files share packs, so that a folder of fifty
thousand small files costs some hundred objects.

A pack ends at a file whose digest says so (a content-defined boundary), so that one changed file changes one pack
and not all packs after it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from loopwright.core import Corrupt, Invalid, NotFound, check_path, decode, digest_bytes, digest_value, encode
from loopwright.store.objects.model import ObjectStore, Tree, TreeEntry

_MAGIC = b"loopwright-tree 1\n"
_SMALL_BYTES = 64 << 10
_PACK_LEAST_BYTES = 1 << 20
_PACK_MOST_BYTES = 8 << 20
_BOUNDARY = "04"  # a digest below this (1 in 64) ends a pack that is large enough


class _Source(msgspec.Struct, frozen=True):
    """A file to be put: at a path on this machine, or bytes in memory."""

    path: str
    content: Path | bytes
    size_bytes: int
    executable: bool = False


def put_tree(
    objects: ObjectStore, folder: Path, *, include: Callable[[str], bool] | None = None, previous: str = ""
) -> str:
    """Keep a folder; returns the digest of its manifest.

    Args:
        folder: its regular files are kept, and what links to files point at; empty folders are not kept.
        include: says for each relative path (with `/`) whether it belongs to the tree; by default all do.
        previous: the digest of an earlier state of the folder; files that it holds are not packed again.

    Raises:
        NotFound: there is no such folder.
        Invalid: it holds a path that some file system refuses, a link to a folder or to nothing, or a device.
        Conflict: a file changed while it was read.
    """
    if not folder.is_dir():
        raise NotFound(f"there is no folder {folder}")
    return _put(objects, _walk(folder, "", include), previous)


def put_tree_entries(objects: ObjectStore, files: Mapping[str, bytes | Path], *, previous: str = "") -> str:
    """Keep files that are given by their path in the tree; returns the digest of the manifest.

    Raises:
        Invalid: a path is not a safe relative one, or is a file and a folder at once.
    """
    sources = (_source_of(check_path(path), content) for path, content in files.items())
    return _put(objects, sorted(sources, key=lambda source: source.path.split("/")), previous)


def put_tree_manifest(objects: ObjectStore, tree: Tree) -> str:
    """Keep a tree of objects that are there already; returns the digest of the manifest.

    Raises:
        Invalid: a path is not a safe relative one, or is a file and a folder at once.
    """
    entries = sorted(tree.entries, key=lambda entry: check_path(entry.path))
    _refuse_clashes(entries)
    return objects.put_bytes(_MAGIC + encode(Tree(tuple(entries))))


def read_tree(objects: ObjectStore, digest: str) -> Tree:
    """The tree behind a manifest's digest.

    Raises:
        NotFound: no such object.
        Invalid: the object is not a tree.
        Corrupt: its bytes are not those that were put.
    """
    tree = parse_tree(objects.get(digest, verify=True))
    if tree is None:
        raise Invalid(f"object {digest} is not a tree", next_step="give the digest that put_tree returned")
    return tree


def is_tree(head: bytes) -> bool:
    """Whether an object that starts with these bytes (18 or more) may be a tree."""
    return head.startswith(_MAGIC)


def parse_tree(data: bytes) -> Tree | None:
    """The tree in an object's bytes, or None if the object is something else."""
    if not is_tree(data):
        return None
    try:
        tree: Tree = decode(data[len(_MAGIC) :], Tree)
    except msgspec.MsgspecError:
        return None
    return tree


def tree_content(tree: Tree) -> str:
    """The digest of what the tree holds, whatever packs it lies in: equal for equal folders."""
    return digest_value([(entry.path, entry.digest, entry.executable) for entry in tree.entries])


def read_file(objects: ObjectStore, tree_digest: str, path: str) -> bytes:
    """One file of a tree, verified.

    Raises:
        NotFound: no such tree, or no such file in it.
        Corrupt: its bytes are not those that were put.
    """
    entry = read_tree(objects, tree_digest).entry(path)
    if entry is None:
        raise NotFound(f"the tree {tree_digest} holds no file {path!r}")
    return read_entry(objects, entry)


def read_entry(objects: ObjectStore, entry: TreeEntry) -> bytes:
    """The bytes of one entry, verified; of a pack only the part that the file takes is read.

    Raises:
        NotFound: its object is missing.
        Corrupt: its bytes are not those that were put.
    """
    with objects.open(entry.holder) as stream:
        stream.seek(entry.offset)
        return checked(entry, stream.read(entry.size_bytes))


def checked(entry: TreeEntry, data: bytes) -> bytes:
    """`data`, if it is what the entry promises.

    Raises:
        Corrupt: it is not.
    """
    if digest_bytes(data) == entry.digest:
        return data
    raise Corrupt(
        f"the file {entry.path!r} in object {entry.holder} is damaged",
        next_step="restore the object from a backup; run loopwright fsck to see what else is damaged",
    )


def _put(objects: ObjectStore, sources: Iterable[_Source], previous: str) -> str:
    known = {entry.digest: entry for entry in read_tree(objects, previous).entries} if previous else {}
    packer = _Packer(objects, known)
    entries = [entry for source in sources for entry in packer.add(source)]
    entries.extend(packer.finish())
    return put_tree_manifest(objects, Tree(tuple(entries)))


class _Packer:
    """Puts files one by one; small ones wait in a pack until it is full."""

    def __init__(self, objects: ObjectStore, known: Mapping[str, TreeEntry]) -> None:
        self._objects, self._known = objects, known
        self._data = bytearray()
        self._waiting: dict[str, tuple[int, list[_Source]]] = {}

    def add(self, source: _Source) -> list[TreeEntry]:
        """Put one file; returns the entries that are settled by that."""
        if source.size_bytes > _SMALL_BYTES:
            return [self._put_large(source)]
        data = source.content if isinstance(source.content, bytes) else source.content.read_bytes()
        digest = digest_bytes(data)
        if digest in self._known:
            found = self._known[digest]
            return [_entry(source, digest, len(data), found.pack, found.offset)]
        if digest in self._waiting:
            self._waiting[digest][1].append(source)
            return []
        self._waiting[digest] = (len(self._data), [source])
        self._data += data
        size = len(self._data)
        full = size >= _PACK_MOST_BYTES or (size >= _PACK_LEAST_BYTES and digest < _BOUNDARY)
        return self.finish() if full else []

    def finish(self) -> list[TreeEntry]:
        """Put the pack that is open; returns its entries."""
        if not self._waiting:
            return []
        data, waiting = bytes(self._data), self._waiting
        self._data, self._waiting = bytearray(), {}
        pack = self._objects.put_bytes(data)
        starts = [offset for offset, _ in waiting.values()]
        ends = [*starts[1:], len(data)]
        return [
            _entry(source, digest, end - offset, pack, offset)
            for (digest, (offset, sources)), end in zip(waiting.items(), ends, strict=True)
            for source in sources
        ]

    def _put_large(self, source: _Source) -> TreeEntry:
        content = source.content
        digest = self._objects.put_bytes(content) if isinstance(content, bytes) else self._objects.put_file(content)
        # The size is asked again: the file may have grown between the walk and the read.
        return _entry(source, digest, self._objects.stat(digest).size_bytes)


def _entry(source: _Source, digest: str, size: int, pack: str = "", offset: int = 0) -> TreeEntry:
    return TreeEntry(source.path, digest, size, pack, offset, source.executable)


def _walk(folder: Path, prefix: str, include: Callable[[str], bool] | None) -> Iterator[_Source]:
    with os.scandir(folder) as found:
        items = sorted(found, key=lambda item: item.name)
    for item in items:
        path = prefix + item.name
        if item.is_dir(follow_symlinks=False):
            yield from _walk(Path(item.path), path + "/", include)
        elif include is None or include(path):
            yield _source_of(check_path(path), Path(item.path))


def _source_of(path: str, content: bytes | Path) -> _Source:
    if isinstance(content, bytes):
        return _Source(path, content, len(content))
    try:
        status = content.stat()
    except FileNotFoundError:
        raise Invalid(f"{content} is a link to nothing, or gone", next_step="remove it or leave it out") from None
    if not stat.S_ISREG(status.st_mode):
        raise Invalid(
            f"{content} is not a regular file", next_step="a tree keeps regular files; leave links to folders out"
        )
    return _Source(path, content, status.st_size, os.name != "nt" and bool(status.st_mode & stat.S_IXUSR))


def _refuse_clashes(entries: list[TreeEntry]) -> None:
    paths = {entry.path for entry in entries}
    for path in paths:
        parent = path.rpartition("/")[0]
        while parent:
            if parent in paths:
                raise Invalid(f"{parent!r} cannot be a file and the folder of {path!r} at once")
            parent = parent.rpartition("/")[0]
