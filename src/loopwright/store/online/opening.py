"""Open the online store that a place names."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from loopwright.core import Invalid, Location
from loopwright.store.online.model import OnlineStore
from loopwright.store.online.sqlite import SqliteOnlineStore

FILE_NAME = "online.sqlite"


def online_place_of(location: Location) -> str:
    """Where a workspace's online store is, as `open_online` takes it; it may hold a password."""
    return location.settings.online or str(location.data / "online.db")


def open_online(place: str | Path) -> OnlineStore:
    """The online store at a place.

    Args:
        place: a folder or a `.sqlite`/`.db` file, `sqlite:///file`, `redis://host:port/n` or `rediss://…`.

    Raises:
        Invalid: an unknown scheme, or a library that is not installed.
    """
    text = str(place)
    if isinstance(place, Path) or "://" not in text:
        path = Path(text)
        return SqliteOnlineStore(path if path.suffix in {".sqlite", ".db"} else path / FILE_NAME)
    scheme = text.split("://", 1)[0].lower()
    if scheme == "sqlite":
        return SqliteOnlineStore(Path(unquote(urlsplit(text).path).removeprefix("/")))
    if scheme in {"redis", "rediss", "unix"}:
        from loopwright.store.online.redis import RedisOnlineStore

        return RedisOnlineStore(text)
    raise Invalid(
        f"there is no online store for {scheme}://", next_step="use a folder, sqlite:///file, redis:// or rediss://"
    )
