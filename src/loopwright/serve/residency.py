"""Which of the endpoints that are published have their models in memory.

Without a bound all of them have. With one, those that fit are loaded at once and the others when they are first asked
for; who was not used for longest leaves. Loads happen one after the other, on a thread; requests for a model on its
way wait for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from loopwright.core import LoopwrightError, NotFound, Unavailable
from loopwright.models import AnyPredictor, Bundle
from loopwright.serve.dataplane import DataPlane
from loopwright.serve.loaded import LoadedEndpoint
from loopwright.serve.loading import Loading, WaitingRoom
from loopwright.serve.memory import growth_of, trim
from loopwright.serve.metrics import Figure
from loopwright.serve.model import ServedEndpoint, ServingState
from loopwright.serve.outs import Outs
from loopwright.serve.prediction_log import PredictionLog
from loopwright.serve.repository import ModelState, RepositoryEntry
from loopwright.serve.shelf import Model, Shelf, Usage, to_evict

if TYPE_CHECKING:
    from loopwright.features import LookupReader

_RETRY_S = 2.0


class Residents:
    """The models that this process knows, as a `Repository`. Lives on one event loop."""

    def __init__(
        self,
        plane: DataPlane,
        log: PredictionLog,
        fetch: Callable[[str], Bundle],
        *,
        threads: int = 1,
        budget_bytes: int | None = None,
        outs: Outs | None = None,
    ) -> None:
        """Args:
        plane: serves what is in memory.
        log: is told the inputs' names of each model.
        fetch: gives the bundle with a digest, on this machine.
        threads: per prediction.
        budget_bytes: what models may take in memory; None for no bound.
        outs: what was taken out by name, in all processes of this address.
        """
        self._plane, self._log, self._fetch, self._threads = plane, log, fetch, threads
        self._budget, self._outs = budget_bytes, outs or Outs()
        self._specs: dict[str, ServedEndpoint] = {}
        self._shelf, self._usage, self._room = Shelf(), Usage(), WaitingRoom()
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._failures: dict[str, tuple[LoopwrightError, float]] = {}
        self._one_at_a_time, self._coming = asyncio.Lock(), set[str]()
        self.loads = self.evictions = 0
        plane.absent = self.absent
        plane.metrics.more.append(self.figures)

    # the follower's side

    async def apply(self, state: ServingState) -> dict[str, LoopwrightError]:
        """Serve what a state names; why some of it cannot be, by endpoint. Such an endpoint stays as it was."""
        self._specs = {spec.name: spec for spec in state.endpoints}
        self._outs.keep_only(self._specs)
        failed: dict[str, LoopwrightError] = {}
        self._failures.clear()
        for name, spec in self._specs.items():
            is_held = name in self._plane.endpoints
            if name in self._outs or not (is_held or await self._fits(spec)):
                continue
            try:
                await self._load(spec)
            except LoopwrightError as error:
                failed[name] = error
        left = [held for name, held in self._plane.endpoints.items() if name in self._specs]
        self._serve(left, self._plane.metrics.revision if failed else state.revision)
        return failed

    async def look_at_outs(self) -> None:
        """Follow what another process of this address was told to take out or in."""
        if not self._outs.changed():
            return
        kept = [held for name, held in self._plane.endpoints.items() if name not in self._outs]
        if len(kept) < len(self._plane.endpoints):
            self._serve(kept)
        if self._budget is None:
            for name in [name for name in self._specs if name not in self._plane.endpoints and name not in self._outs]:
                with contextlib.suppress(LoopwrightError):  # whoever asks for it is told why
                    await self._wanted(name)

    # the data plane's side

    def absent(self, name: str) -> LoopwrightError:
        """What to tell of an endpoint that is not in memory: that it is on its way, or why it is not."""
        if name not in self._specs:
            served = ", ".join(sorted(self._specs)) or "none"
            return NotFound(f"no endpoint {name!r} is served here", next_step=f"served: {served}")
        if name in self._outs:
            return Unavailable(f"model {name!r} was unloaded", next_step="load it, or ask another")
        error, until = self._failures.get(name, (None, 0.0))
        if error is not None and time.monotonic() < until:
            return error
        self._usage.touch(name)
        return Loading(name, self._wanted(name), self._room)

    def figures(self) -> list[Figure]:
        """What Prometheus is told."""
        return [
            ("models_loaded", "gauge", "Models in memory.", len(self._shelf.models)),
            ("models_bytes", "gauge", "What models take in memory.", self._shelf.size_bytes),
            ("model_loads_total", "counter", "Models that were loaded.", self.loads),
            ("model_evictions_total", "counter", "Endpoints that left memory for others.", self.evictions),
            ("requests_waiting_for_models", "gauge", "Requests that wait for a model to load.", self._room.count),
        ]

    # the repository's side

    def index(self) -> list[RepositoryEntry]:
        """All versions of all names, by name."""
        return [
            RepositoryEntry(spec.name, variant.version, *self._state_of(spec.name))
            for _, spec in sorted(self._specs.items())
            for variant in (*spec.live, *spec.shadows)
        ]

    async def load(self, name: str) -> None:
        """Make a name ready to answer.

        Raises:
            NotFound: the process does not know the name.
            Unavailable: it cannot be loaded now.
        """
        self._check_known(name)
        self._outs.discard(name)
        if name in self._plane.endpoints:
            return
        self._failures.pop(name, None)
        await self._wanted(name)
        if name in self._failures:
            raise self._failures[name][0]

    async def unload(self, name: str) -> None:
        """Answer for a name no more, until it is loaded by name or a state leaves it out and brings it again.

        Raises:
            NotFound: the process does not know the name.
        """
        self._check_known(name)
        self._outs.add(name)
        self._serve([held for other, held in self._plane.endpoints.items() if other != name])
        await asyncio.to_thread(trim)

    def _check_known(self, name: str) -> None:
        if name not in self._specs:
            known = ", ".join(sorted(self._specs)) or "none"
            raise NotFound(f"no model {name!r} is known here", next_step=f"known: {known}")

    def _state_of(self, name: str) -> tuple[ModelState, str]:
        if name in self._plane.endpoints:
            return ModelState.READY, ""
        if name in self._loads:
            return ModelState.LOADING, ""
        if name in self._outs:
            return ModelState.UNAVAILABLE, "unloaded"
        if name in self._failures:
            return ModelState.UNAVAILABLE, str(self._failures[name][0])
        return ModelState.UNAVAILABLE, "loaded when it is asked for"

    # loading

    def _wanted(self, name: str) -> asyncio.Task[None]:
        """The load of a name: the one under way, or a new one. It never fails; `_failures` says how it went."""
        task = self._loads.get(name)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._bring(name), name=f"loopwright-load-{name}")
            self._loads[name] = task
            task.add_done_callback(lambda _done: self._loads.pop(name, None))
        return task

    async def _bring(self, name: str) -> None:
        try:
            await self._load(self._specs[name])
        except KeyError:  # a new state has left it out meanwhile
            return
        except LoopwrightError as error:  # whoever asks is told why, and not where on this machine
            failure = Unavailable(f"model {name!r} cannot be loaded: {error.message}", next_step=error.next_step)
        except Exception as error:  # noqa: BLE001  (told in full, and those who wait must be answered)
            traceback.print_exception(error, file=sys.stderr)
            failure = Unavailable(f"model {name!r} cannot be loaded")
        else:
            self._failures.pop(name, None)
            return
        self._plane.metrics.load_failures += 1
        self._failures[name] = failure, time.monotonic() + _RETRY_S

    async def _load(self, spec: ServedEndpoint) -> None:
        """Bring an endpoint's models into memory and serve it, unless another state or an unload was quicker.

        Raises:
            LoopwrightError: a model cannot be had, or takes more than all models may.
        """
        async with self._one_at_a_time:
            self._coming = {variant.bundle for variant in spec.variants}
            try:
                for digest in self._coming:
                    if digest not in self._shelf.models:
                        self._shelf.put(digest, await self._fetched(spec, digest))
                        self.loads += 1
                models = self._shelf.models
                predictors = {digest: models[digest].predictor for digest in self._coming}
                keys = {digest: models[digest].columns_key for digest in self._coming}
                readers = {digest: models[digest].reader for digest in self._coming}
                others = [held for name, held in self._plane.endpoints.items() if name != spec.name]
                if self._specs.get(spec.name) is spec and spec.name not in self._outs:
                    self._serve([*others, LoadedEndpoint(spec, predictors, keys, readers)])
            finally:
                self._coming = set()

    async def _fetched(self, spec: ServedEndpoint, digest: str) -> Model:
        bundle = await asyncio.to_thread(self._fetch, digest)
        self._check_size(spec, bundle.size_bytes)
        await self._make_room(spec, self._shelf.cost(digest, bundle.size_bytes))
        return await asyncio.to_thread(self._open, bundle)

    def _open(self, bundle: Bundle) -> Model:
        """On a thread: a model that has answered its own example."""

        def open_and_ask() -> AnyPredictor:
            predictor = bundle.predictor(self._threads)
            predictor.predict_rows([bundle.example_row()])
            return predictor

        predictor, growth = growth_of(open_and_ask)
        key = self._log.columns_key(predictor.signature.names)
        return Model(predictor, key, max(growth, bundle.size_bytes), _reader_of(bundle))

    async def _fits(self, spec: ServedEndpoint) -> bool:
        """Whether an endpoint's models fit beside those that are in memory, so that none has to leave for it."""
        if self._budget is None:
            return True
        needed = 0
        for variant in spec.variants:
            if variant.bundle not in self._shelf.models:
                with contextlib.suppress(LoopwrightError):  # the load will tell
                    bundle = await asyncio.to_thread(self._fetch, variant.bundle)
                    needed += self._shelf.cost(variant.bundle, bundle.size_bytes)
        return self._shelf.size_bytes + needed <= self._budget

    def _check_size(self, spec: ServedEndpoint, size_bytes: int) -> None:
        if self._budget is not None and size_bytes > self._budget:
            raise Unavailable(
                f"a model of endpoint {spec.name!r} has {size_bytes} bytes; all together may take {self._budget}",
                next_step="give a larger --memory",
            )

    async def _make_room(self, spec: ServedEndpoint, needed: int) -> None:
        if self._budget is None:
            return
        counts: Counter[str] = Counter()
        for (name, *_), count in self._plane.metrics.predictions.items():
            counts[name] += count
        self._usage.look(counts)
        sizes = {name: self._size_of(held) for name, held in self._plane.endpoints.items()}
        others = [name for name in self._plane.endpoints if name != spec.name]
        unserved = max(0, self._shelf.size_bytes - sum(sizes.values()))
        leaving = to_evict(sizes, self._usage.oldest_first(others), self._budget - needed - unserved)
        if leaving:
            self.evictions += len(leaving)
            self._serve([held for name, held in self._plane.endpoints.items() if name not in leaving])
            await asyncio.to_thread(trim)

    def _size_of(self, held: LoadedEndpoint) -> int:
        bundles = {item.variant.bundle for item in held.variants}
        return sum(self._shelf.models[digest].size_bytes for digest in bundles if digest in self._shelf.models)

    def _serve(self, endpoints: Iterable[LoadedEndpoint], revision: int | None = None) -> None:
        """Serve these from now on, and let go of the models that nobody serves; queries under way hold on to theirs."""
        served = list(endpoints)
        self._plane.replace(served, self._plane.metrics.revision if revision is None else revision)
        self._shelf.keep_only(self._coming | {item.variant.bundle for held in served for item in held.variants})


def _reader_of(bundle: Bundle) -> LookupReader | None:
    lookup = bundle.lookup()
    if lookup is None:
        return None
    from loopwright.features import LookupReader

    return LookupReader(lookup)
