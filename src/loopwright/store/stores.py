"""All stores of one workspace, opened together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from loopwright.core import Clock, Location, SystemClock, Unavailable
from loopwright.store.db import Database, open_database
from loopwright.store.events import EventLog
from loopwright.store.lineage import Lineage

if TYPE_CHECKING:
    from loopwright.store.objects import ObjectStore
    from loopwright.store.online import OnlineStore
    from loopwright.store.tables import TableStore


class Stores:
    """The stores of a workspace. Objects, tables and online rows are opened by their first use, not before.

    `root` is the project's folder, `data` the folder of the embedded stores. Thread-safe; one per process.
    """

    def __init__(self, location: Location, db: Database, clock: Clock) -> None:
        self.location, self.db, self.clock = location, db, clock
        self.root: Path = location.root
        self.data: Path = location.data
        self.events = EventLog(db, clock)
        self.lineage = Lineage(db)

    @cached_property
    def objects(self) -> ObjectStore:
        """Immutable bytes by digest."""
        from loopwright.store.objects import open_objects

        settings = self.location.settings
        return open_objects(settings.objects or str(self.data / "objects"), settings.storage_options)

    @cached_property
    def tables(self) -> TableStore:
        """Versioned tables."""
        from loopwright.store.tables import TableStore

        settings = self.location.settings
        return TableStore(settings.tables or str(self.data / "tables"), settings.storage_options)

    @cached_property
    def online(self) -> OnlineStore:
        """The newest feature row per key."""
        from loopwright.store.online import online_place_of, open_online

        return open_online(online_place_of(self.location))

    def close(self) -> None:
        """Close what is open."""
        self.db.close()
        for name in ("objects", "tables", "online"):
            close = getattr(self.__dict__.pop(name, None), "close", None)
            if close is not None:
                close()


def open_stores(
    location: Location,
    migrations: Sequence[str],
    *,
    clock: Clock | None = None,
    clock_of: Callable[[Database], Clock] | None = None,
) -> Stores:
    """Open a workspace's stores; the folder and the database are made if they are missing.

    Args:
        location: where the workspace is, and its settings.
        migrations: the migration packages of the rooms, such as `loopwright.data.migrations`.
        clock: the workspace's time; by default the machine's.
        clock_of: makes the workspace's clock, where that is kept in the database.

    Raises:
        Unavailable: the folder cannot be written, or the database cannot be reached.
        Conflict: the database was made by a newer Loopwright.
        Corrupt: the database is damaged.
    """
    _make_folder(location.data)
    url = location.settings.db or location.data / "loopwright.db"
    db = open_database(url, migrations)
    return Stores(location, db, clock_of(db) if clock_of else clock or SystemClock())


def _make_folder(data: Path) -> None:
    if data.is_dir():
        return
    try:
        data.mkdir(parents=True, exist_ok=True)
        (data / ".gitignore").write_text("*\n", encoding="utf-8")
    except OSError as error:
        raise Unavailable(
            f"the workspace folder {data} cannot be made: {error.strerror or error}",
            next_step="make its parent writable, free some space, or choose another with --workspace",
        ) from error
