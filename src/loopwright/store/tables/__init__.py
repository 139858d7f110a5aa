"""Delta Lake tables with Polars in and out. Importing this loads neither library."""

from loopwright.store.tables.frames import Data
from loopwright.store.tables.store import TableStore

__all__ = ["Data", "TableStore"]
