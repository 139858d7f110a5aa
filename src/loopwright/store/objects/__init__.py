"""Immutable bytes under their digest, and folders as trees of them. Needs no SQL and no table library."""

from loopwright.store.objects.checkout import checkout
from loopwright.store.objects.filesystems import is_url, open_filesystem
from loopwright.store.objects.folder import FolderStore
from loopwright.store.objects.model import ObjectAge, ObjectStat, ObjectStore, Readable, Tree, TreeEntry
from loopwright.store.objects.opening import open_objects
from loopwright.store.objects.trees import (
    is_tree,
    parse_tree,
    put_tree,
    put_tree_entries,
    put_tree_manifest,
    read_entry,
    read_file,
    read_tree,
    tree_content,
)

__all__ = [
    "FolderStore",
    "ObjectAge",
    "ObjectStat",
    "ObjectStore",
    "Readable",
    "Tree",
    "TreeEntry",
    "checkout",
    "is_tree",
    "is_url",
    "open_filesystem",
    "open_objects",
    "parse_tree",
    "put_tree",
    "put_tree_entries",
    "put_tree_manifest",
    "read_entry",
    "read_file",
    "read_tree",
    "tree_content",
]
