"""The words of a journal."""

from __future__ import annotations

import msgspec


class Position(msgspec.Struct, frozen=True, order=True):
    """Where a record starts. Segments are named by UUIDv7, so positions sort by the time their segment was begun."""

    segment: str
    offset: int


class Cursor(msgspec.Struct, frozen=True):
    """How far a reader has come in each segment: the offset behind the last record that it handled.

    Several writers may be at work at once, so one position is not enough. Segments that it does not name are unread.
    """

    offsets: dict[str, int] = {}

    def moved(self, segment: str, offset: int) -> Cursor:
        """The cursor with its place in one segment moved."""
        return Cursor({**self.offsets, segment: offset})


class Segment(msgspec.Struct, frozen=True):
    """One file of a journal. `live` says that its writer is still at work."""

    name: str
    size_bytes: int
    live: bool
