"""The model repository of this process: what it knows by name, and what of that is in memory to answer."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

import msgspec

from loopwright.core import NotFound
from loopwright.serve.dataplane import DataPlane
from loopwright.serve.loaded import LoadedEndpoint


class ModelState(StrEnum):
    READY = "READY"
    LOADING = "LOADING"
    UNAVAILABLE = "UNAVAILABLE"


class RepositoryEntry(msgspec.Struct, frozen=True):
    """One version of a name that the process knows; `reason` says why it is not ready."""

    name: str
    version: str
    state: ModelState
    reason: str = ""


class Repository(Protocol):
    """What can be asked of the models that a process knows. A caller names a model, never a place to load it from."""

    def index(self) -> list[RepositoryEntry]:
        """All versions of all names, by name."""
        ...

    async def load(self, name: str) -> None:
        """Make a name ready to answer; one that is ready already stays so.

        Raises:
            NotFound: the process does not know the name.
            Unavailable: it cannot be loaded now.
        """
        ...

    async def unload(self, name: str) -> None:
        """Answer for a name no more. Queries under way are answered.

        Raises:
            NotFound: the process does not know the name.
        """
        ...


class PlaneRepository:
    """What the data plane serves, and what was taken out of it here. A new state document brings everything back."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._out: dict[str, LoadedEndpoint] = {}

    def index(self) -> list[RepositoryEntry]:
        """All versions of all names, by name."""
        out = {name: held for name, held in self._out.items() if name not in self._plane.endpoints}
        entries = [_entry(held, item.version, "") for held in self._plane.endpoints.values() for item in held.variants]
        entries += [_entry(held, item.version, "unloaded") for held in out.values() for item in held.variants]
        return sorted(entries, key=lambda entry: (entry.name, entry.version))

    async def load(self, name: str) -> None:
        """Put back what was taken out."""
        held = self._out.pop(name, None)
        if name not in self._plane.endpoints:
            if held is None:
                raise NotFound(f"no model {name!r} is known here", next_step=self._known())
            self._plane.endpoints[name] = held

    async def unload(self, name: str) -> None:
        """Take out."""
        held = self._plane.endpoints.pop(name, None)
        if held is not None:
            self._out[name] = held
        elif name not in self._out:
            raise NotFound(f"no model {name!r} is known here", next_step=self._known())

    def _known(self) -> str:
        return f"known: {', '.join(sorted({entry.name for entry in self.index()})) or 'none'}"


def _entry(held: LoadedEndpoint, version: str, reason: str) -> RepositoryEntry:
    state = ModelState.UNAVAILABLE if reason else ModelState.READY
    return RepositoryEntry(held.spec.name, version, state, reason)
