"""Relational truth: SQLAlchemy Core on SQLite (embedded) or PostgreSQL (grown)."""

from loopwright.store.db.database import Database
from loopwright.store.db.engines import refuse_nul
from loopwright.store.db.glance import NotAtAGlanceError
from loopwright.store.db.opening import open_database
from loopwright.store.db.schema import Json, LongText, UtcTime, metadata, ordered

__all__ = [
    "Database",
    "Json",
    "LongText",
    "NotAtAGlanceError",
    "UtcTime",
    "metadata",
    "open_database",
    "ordered",
    "refuse_nul",
]
