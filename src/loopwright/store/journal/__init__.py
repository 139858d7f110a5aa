"""A journal: an append-only, framed, local log for facts at a high rate. No SQL; light to import."""

from loopwright.store.journal.model import Cursor, Position, Segment
from loopwright.store.journal.reader import JournalReader
from loopwright.store.journal.writer import JournalWriter

__all__ = ["Cursor", "JournalReader", "JournalWriter", "Position", "Segment"]
