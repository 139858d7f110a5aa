"""key → newest feature row, in SQLite or Redis."""

from loopwright.store.online.model import OnlineStore, Row
from loopwright.store.online.opening import open_online
from loopwright.store.online.sqlite import SqliteOnlineStore

__all__ = ["OnlineStore", "Row", "SqliteOnlineStore", "open_online"]
