"""Switching the recording of trainings on and off."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from types import ModuleType

from loopwright.core import Invalid
from loopwright.track.autolog.contract import AUTOLOG, AutologOptions, Front
from loopwright.track.autolog.guarding import quietly
from loopwright.track.autolog.importing import wait_no_longer, when_imported
from loopwright.track.autolog.patching import Patched

ALIASES = {
    "scikit-learn": ("sklearn",),
    "pytorch": ("torch", "lightning"),
    "pytorch_lightning": ("lightning",),
    "pytorch-lightning": ("lightning",),
    "tensorflow": ("keras",),
}


class _On:
    """An integration that is switched on."""

    def __init__(self, name: str, front: Front) -> None:
        self.name, self.patched = name, Patched(name, _options.get, front)
        self.modules: tuple[str, ...] = ()
        self.done: set[str] = set()

    def begin(self) -> None:
        """Patch what is there, and wait for the rest."""
        with quietly(f"all trainings of {self.name}, whose integration is broken"):
            self.modules = tuple(AUTOLOG.get(self.name).modules)
            for module in self.modules:
                when_imported(module, self.told)

    def end(self) -> None:
        """Wait no longer, and put everything back."""
        for module in self.modules:
            wait_no_longer(module, self.told)
        self.patched.undo()

    def told(self, module: ModuleType) -> None:
        """A module that it knows is there."""
        with _lock:
            if _on.get(self.name) is self and module.__name__ not in self.done:
                self.done.add(module.__name__)
                with quietly(f"all trainings of {self.name}, which cannot be watched"):
                    AUTOLOG.get(self.name).patch(module, self.patched)


_lock = threading.RLock()
_options: dict[str, AutologOptions] = {}
_on: dict[str, _On] = {}


def autolog_on(names: Iterable[str] | None, options: AutologOptions, front: Front) -> None:
    """Record the trainings of these libraries from now on; all that are known if none is named.

    Libraries are not imported. Switching on again changes the options, and nothing else.

    Raises:
        Invalid: there is no integration of such a name.
    """
    with _lock:
        for name in known(names):
            _options[name] = options
            if name in _on:
                continue
            _on[name] = on = _On(name, front)
            on.begin()


def autolog_off(names: Iterable[str] | None = None) -> None:
    """Put the libraries' own functions back.

    Raises:
        Invalid: there is no integration of such a name.
    """
    with _lock:
        for name in known(names):
            _options.pop(name, None)
            on = _on.pop(name, None)
            if on is not None:
                on.end()


def autologged() -> dict[str, AutologOptions]:
    """The integrations that are switched on, with their options."""
    with _lock:
        return dict(_options)


def known(names: Iterable[str] | None) -> list[str]:
    """The integrations of these names, which may be other names of theirs; all if none is given.

    Raises:
        Invalid: there is none of such a name.
    """
    with quietly("the trainings of a library, whose plug-in cannot be loaded"):
        AUTOLOG.names()
    there = AUTOLOG.names()
    if names is None:
        return there
    asked = [names] if isinstance(names, str) else list(names)
    found = [name for one in asked for name in ALIASES.get(one.lower(), (one.lower(),))]
    for name in found:
        if name not in there:
            raise Invalid(f"autolog knows no framework {name!r}", next_step=f"choose among {', '.join(there)}")
    return list(dict.fromkeys(found))
