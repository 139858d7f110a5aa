"""Writers of one dataset take turns. That no two of them mix is proved elsewhere; turns only spare them the retry."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from loopwright.core import Conflict, LoopwrightError, digest_bytes, new_id

if TYPE_CHECKING:
    from loopwright.store import Stores

PATIENCE_S = 60.0
_LEASE_S = 10.0
_RENEW_S = 2.0
_POLL_S = 0.05


@contextmanager
def turn(stores: Stores, name: str) -> Iterator[Callable[[], None]]:
    """Wait for the turn to write `name`; gives a function to call now and then during long work.

    With SQLite all writers are on this machine: a lock on a file, which the death of its process frees at once.
    With PostgreSQL a lease, which runs out ten seconds after the death of its holder.

    Raises:
        Conflict: another writer kept its turn for a minute.
        Unavailable: the database does not answer.
    """
    with (_file_turn if stores.db.dialect == "sqlite" else _leased_turn)(stores, name) as renew:
        yield renew


@contextmanager
def _file_turn(stores: Stores, name: str) -> Iterator[Callable[[], None]]:
    from filelock import FileLock, Timeout

    folder = stores.data / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{digest_bytes(name.encode())[:32]}.lock", timeout=PATIENCE_S, poll_interval=_POLL_S)
    try:
        lock.acquire()
    except Timeout:
        raise _kept(name) from None
    try:
        yield lambda: None
    finally:
        lock.release()


@contextmanager
def _leased_turn(stores: Stores, name: str) -> Iterator[Callable[[], None]]:
    db, holder, until = stores.db, new_id(), time.monotonic() + PATIENCE_S
    while not db.try_lease(name, holder, _LEASE_S):
        if time.monotonic() > until:
            raise _kept(name)
        time.sleep(_POLL_S)
    renewed = time.monotonic()

    def renew() -> None:
        nonlocal renewed
        if time.monotonic() - renewed > _RENEW_S:
            db.try_lease(name, holder, _LEASE_S)
            renewed = time.monotonic()

    try:
        yield renew
    finally:
        with suppress(LoopwrightError):  # it runs out by itself; the first error must stay visible
            db.release_lease(name, holder)


def _kept(name: str) -> Conflict:
    return Conflict(f"another writer has held {name} for {PATIENCE_S:g} s", next_step="try again when it is done")
