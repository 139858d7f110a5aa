"""The backbone: how to keep things. What is kept belongs to each room.

The face is lazy (PEP 562): importing it loads no SQL and no data-frame library; a name loads its own part only.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loopwright.store.db import Database, Json, LongText, NotAtAGlanceError, UtcTime, metadata, ordered, refuse_nul
    from loopwright.store.events import AuditReport, Event, EventLog, Sealer
    from loopwright.store.integrity import FsckReport, fsck
    from loopwright.store.journal import Cursor, JournalReader, JournalWriter, Position
    from loopwright.store.lineage import Edge, Lineage, Node, Trace
    from loopwright.store.objects import (
        ObjectAge,
        ObjectStat,
        ObjectStore,
        Readable,
        Tree,
        TreeEntry,
        checkout,
        open_objects,
        put_tree,
        put_tree_entries,
        put_tree_manifest,
        read_file,
        read_tree,
    )
    from loopwright.store.online import OnlineStore, online_place_of, open_online
    from loopwright.store.outgoing import Outgoing, Reply
    from loopwright.store.paging import Keyset
    from loopwright.store.reach import (
        Doomed,
        Expiry,
        Holding,
        Lapse,
        Lapsed,
        Reach,
        Room,
        find_reach,
        of_ref,
        of_run,
        removable,
    )
    from loopwright.store.stores import Stores, open_stores
    from loopwright.store.tables import Ahead, Batches, TableStore

_HOMES = {
    "db": ("Database", "Json", "LongText", "NotAtAGlanceError", "UtcTime", "metadata", "ordered", "refuse_nul"),
    "events": ("AuditReport", "Event", "EventLog", "Sealer"),
    "integrity": ("FsckReport", "fsck"),
    "journal": ("Cursor", "JournalReader", "JournalWriter", "Position"),
    "lineage": ("Edge", "Lineage", "Node", "Trace"),
    "objects": (
        "ObjectAge",
        "ObjectStat",
        "ObjectStore",
        "Readable",
        "Tree",
        "TreeEntry",
        "checkout",
        "open_objects",
        "put_tree",
        "put_tree_entries",
        "put_tree_manifest",
        "read_file",
        "read_tree",
    ),
    "online": ("OnlineStore", "online_place_of", "open_online"),
    "outgoing": ("Outgoing", "Reply"),
    "paging": ("Keyset",),
    "reach": (
        "Doomed",
        "Expiry",
        "Holding",
        "Lapse",
        "Lapsed",
        "Reach",
        "Room",
        "find_reach",
        "of_ref",
        "of_run",
        "removable",
    ),
    "stores": ("Stores", "open_stores"),
    "tables": ("Ahead", "Batches", "TableStore"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Ahead",
    "AuditReport",
    "Batches",
    "Cursor",
    "Database",
    "Doomed",
    "Edge",
    "Event",
    "EventLog",
    "Expiry",
    "FsckReport",
    "Holding",
    "JournalReader",
    "JournalWriter",
    "Json",
    "Keyset",
    "Lapse",
    "Lapsed",
    "Lineage",
    "LongText",
    "Node",
    "NotAtAGlanceError",
    "ObjectAge",
    "ObjectStat",
    "ObjectStore",
    "OnlineStore",
    "Outgoing",
    "Position",
    "Reach",
    "Readable",
    "Reply",
    "Room",
    "Sealer",
    "Stores",
    "TableStore",
    "Trace",
    "Tree",
    "TreeEntry",
    "UtcTime",
    "checkout",
    "find_reach",
    "fsck",
    "metadata",
    "of_ref",
    "of_run",
    "online_place_of",
    "open_objects",
    "open_online",
    "open_stores",
    "ordered",
    "put_tree",
    "put_tree_entries",
    "put_tree_manifest",
    "read_file",
    "read_tree",
    "refuse_nul",
    "removable",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
