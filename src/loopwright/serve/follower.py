"""Follow the state document: new models are loaded before they are swapped in, so that no request waits or fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from loopwright.core import LoopwrightError, NotFound
from loopwright.models import Bundle, Trust, fetch_bundle
from loopwright.serve.dataplane import DataPlane
from loopwright.serve.health import HealthWatch
from loopwright.serve.model import ServingState
from loopwright.serve.residency import Residents
from loopwright.serve.state import read_state

if TYPE_CHECKING:
    from loopwright.store import ObjectStore

POLL_S = 0.1
_FIRST_RETRY_S, _LAST_RETRY_S = 1.0, 30.0


class Follower:
    """Keeps the data plane at what the document says.

    An endpoint whose models cannot be loaded goes on as it was, and is tried again; the others move on. A document
    that is missing or damaged changes nothing.
    """

    def __init__(self, path: Path, plane: DataPlane, residents: Residents, report: Callable[[str], None]) -> None:
        """Args:
        path: the document.
        plane: what is kept up to date.
        residents: brings models into memory.
        report: is told, in one line, of what could not be loaded, and of each new revision.
        """
        self._path, self._plane, self._residents, self._report = path, plane, residents, report
        self._seen: tuple[int, int, int] | None = None
        self._retry_at, self._retry_s = float("inf"), _FIRST_RETRY_S
        self._told = ""
        self._health = HealthWatch(report)

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            await self.refresh()
            await self._residents.look_at_outs()
            self._health.look(self._plane.endpoints.values())
            await asyncio.sleep(POLL_S)

    async def refresh(self) -> None:
        """Look once; load and swap if the document is another, or if a failed load is due again."""
        stamp = _stamp(self._path)
        if stamp is None or (stamp == self._seen and time.monotonic() < self._retry_at):
            return
        self._seen, self._retry_at = stamp, float("inf")
        try:
            state = await asyncio.to_thread(read_state, self._path)
        except NotFound:
            return
        except LoopwrightError as error:
            self._failed(str(error))
            return
        await self._apply(state)

    async def _apply(self, state: ServingState) -> None:
        failed = await self._residents.apply(state)
        for name, error in failed.items():
            self._failed(f"endpoint {name!r} stays as it was: {error}")
        if not failed:
            self._retry_s = _FIRST_RETRY_S
            names = ", ".join(spec.name for spec in state.endpoints) or "nothing"
            self._tell(f"serving revision {state.revision}: {names}")

    def _failed(self, why: str) -> None:
        self._plane.metrics.load_failures += 1
        self._retry_at = time.monotonic() + self._retry_s
        self._retry_s = min(2 * self._retry_s, _LAST_RETRY_S)
        self._tell(why)

    def _tell(self, line: str) -> None:
        if line != self._told:
            self._told = line
            self._report(line)


def fetch_from(objects: ObjectStore, cache: Path, state: Path, trust: Trust) -> Callable[[str], Bundle]:
    """A function that fetches bundles from an object store into a folder, signed as `trust` asks.

    The signatures over a bundle are those that the document `state` names at that moment.
    """

    def fetch(digest: str) -> Bundle:
        signatures = _signatures(read_state(state), digest) if trust.asks else ()
        return fetch_bundle(objects, digest, cache, signatures, trust)

    return fetch


def _signatures(state: ServingState, bundle: str) -> tuple[str, ...]:
    variants = [item for endpoint in state.endpoints for item in endpoint.variants if item.bundle == bundle]
    return tuple(dict.fromkeys(found for item in variants for found in item.signatures))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes when the document is replaced; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
