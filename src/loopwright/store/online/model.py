"""The contract of the online store: for each key of a view, its newest row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

Row = tuple[datetime, bytes]


class OnlineStore(Protocol):
    """key → (event time, payload), per view.

    Newest wins: a row replaces the kept one unless its event time is earlier; so rows may be written in any order,
    again, and by several writers at once, and every order gives the same state. Of two rows with one event time the
    later written stays.
    Each row is written whole; a write of many rows is not one transaction, and can be repeated.
    Durable when `write` returns, as far as the engine is (Redis: as it is configured to persist).
    Event times are aware; they are kept to the microsecond, in UTC. Thread-safe.
    A store that does not answer is Unavailable.
    """

    def write(self, view: str, rows: Mapping[str, Row]) -> None:
        """Keep these rows, each unless a newer one is there."""
        ...

    def read(self, view: str, keys: Sequence[str]) -> list[Row | None]:
        """The rows of these keys, in their order; None where there is none. One round trip."""
        ...

    def delete(self, view: str) -> None:
        """Forget all rows of a view."""
        ...

    def count(self, view: str) -> int:
        """How many keys a view has."""
        ...

    def check(self) -> list[str]:
        """What is wrong with the store, in words; empty if nothing is. Never raises."""
        ...

    def close(self) -> None:
        """Let go of connections; the store is not used afterwards."""
        ...
