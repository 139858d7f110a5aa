"""Delta Lake tables with Polars in and out. Importing this loads neither library."""

from loopwright.store.tables.ahead import Ahead
from loopwright.store.tables.frames import Batches, Data
from loopwright.store.tables.store import TableStore

__all__ = ["Ahead", "Batches", "Data", "TableStore"]
