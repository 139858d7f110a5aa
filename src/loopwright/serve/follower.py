"""Follow the state document: new models are loaded before they are swapped in, so that no request waits or fails."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core import LoopwrightError, NotFound
from loopwright.models import Bundle, Predictor, fetch_bundle
from loopwright.serve.dataplane import DataPlane
from loopwright.serve.loaded import LoadedEndpoint
from loopwright.serve.model import ServedEndpoint, ServingState
from loopwright.serve.prediction_log import PredictionLog
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

    def __init__(
        self,
        path: Path,
        plane: DataPlane,
        log: PredictionLog,
        fetch: Callable[[str], Bundle],
        report: Callable[[str], None],
        threads: int = 1,
    ) -> None:
        """Args:
        path: the document.
        plane: what is kept up to date.
        log: is told the inputs' names of each model.
        fetch: gives the bundle with a digest, on this machine.
        report: is told, in one line, of what could not be loaded, and of each new revision.
        threads: per prediction.
        """
        self._path, self._plane, self._log, self._fetch = path, plane, log, fetch
        self._report, self._threads = report, threads
        self._seen: tuple[int, int, int] | None = None
        self._state = ServingState(0)
        self._predictors: dict[str, Predictor] = {}
        self._columns_keys: dict[str, str] = {}
        self._retry_at, self._retry_s = float("inf"), _FIRST_RETRY_S
        self._told = ""

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(POLL_S)

    async def refresh(self) -> None:
        """Look once; load and swap if the document is another, or if a failed load is due again."""
        stamp = _stamp(self._path)
        if stamp is None or (stamp == self._seen and time.monotonic() < self._retry_at):
            return
        self._seen, self._retry_at = stamp, float("inf")
        try:
            self._state = await asyncio.to_thread(read_state, self._path)
        except NotFound:
            return
        except LoopwrightError as error:
            self._failed(str(error))
            return
        await self._apply(self._state)

    async def _apply(self, state: ServingState) -> None:
        loaded: list[LoadedEndpoint] = []
        whole = True
        for spec in state.endpoints:
            try:
                loaded.append(await self._load(spec))
            except LoopwrightError as error:
                whole = False
                self._failed(f"endpoint {spec.name!r} stays as it was: {error}")
                with contextlib.suppress(NotFound):
                    loaded.append(self._plane.endpoint(spec.name))
        if whole:
            self._retry_s = _FIRST_RETRY_S
        self._plane.replace(loaded, state.revision if whole else self._plane.metrics.revision)
        self._forget(loaded)
        if whole:
            self._tell(f"serving revision {state.revision}: {', '.join(e.spec.name for e in loaded) or 'nothing'}")

    async def _load(self, spec: ServedEndpoint) -> LoadedEndpoint:
        for variant in (*spec.live, *spec.shadows):
            if variant.bundle not in self._predictors:
                predictor, key = await asyncio.to_thread(self._open, variant.bundle)
                self._predictors[variant.bundle], self._columns_keys[variant.bundle] = predictor, key
        return LoadedEndpoint(spec, self._predictors, self._columns_keys)

    def _open(self, digest: str) -> tuple[Predictor, str]:
        """On a thread: a predictor that has answered its own example."""
        bundle = self._fetch(digest)
        predictor = bundle.predictor(self._threads)
        predictor.predict_rows([_example_row(bundle)])
        return predictor, self._log.columns_key(predictor.signature.names)

    def _forget(self, loaded: list[LoadedEndpoint]) -> None:
        """Drop the models that nobody serves any more; queries under way hold on to theirs."""
        used = {item.variant.bundle for endpoint in loaded for item in endpoint.variants}
        for digest in [digest for digest in self._predictors if digest not in used]:
            del self._predictors[digest], self._columns_keys[digest]

    def _failed(self, why: str) -> None:
        self._plane.metrics.load_failures += 1
        self._retry_at = time.monotonic() + self._retry_s
        self._retry_s = min(2 * self._retry_s, _LAST_RETRY_S)
        self._tell(why)

    def _tell(self, line: str) -> None:
        if line != self._told:
            self._told = line
            self._report(line)


def fetch_from(objects: ObjectStore, cache: Path) -> Callable[[str], Bundle]:
    """A function that fetches bundles from an object store into a folder."""
    return lambda digest: fetch_bundle(objects, digest, cache)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes when the document is replaced; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _example_row(bundle: Bundle) -> list[Any]:
    request = msgspec.json.decode((bundle.folder / "example.json").read_bytes())
    return [tensor["data"][0] for tensor in request["inputs"]]
