"""key → newest feature row, in SQLite or Redis."""

from loopwright.store.online.model import OnlineStore, Row
from loopwright.store.online.opening import online_place_of, open_online
from loopwright.store.online.sqlite import SqliteOnlineStore

__all__ = ["OnlineStore", "Row", "SqliteOnlineStore", "online_place_of", "open_online"]
