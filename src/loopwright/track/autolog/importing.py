"""Being told when a module has been imported, without importing it."""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

from loopwright.track.autolog.guarding import quietly

Told = Callable[[ModuleType], None]


class _Finder:
    """Lets the other finders find, and adds a word to what the loader does."""

    def __init__(self) -> None:
        self.wanted: dict[str, list[Told]] = {}
        self._busy = threading.local()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's own spec, whose loader tells us when it is done; None for a module that nobody waits for."""
        if fullname not in self.wanted or getattr(self._busy, "name", None) == fullname:
            return None
        before, self._busy.name = getattr(self._busy, "name", None), fullname
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._busy.name = before
        if spec is not None:
            with quietly(f"the import of {fullname}"):
                _tell_after(spec, self.wanted[fullname])
        return spec


_finder = _Finder()


def when_imported(name: str, told: Told) -> None:
    """Call `told` with the module: now if it is there, else when it has been imported."""
    module = sys.modules.get(name)
    if module is not None and not getattr(module.__spec__, "_initializing", False):
        told(module)
        return
    _finder.wanted.setdefault(name, []).append(told)
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


def wait_no_longer(name: str, told: Told) -> None:
    """Do not tell this one any more."""
    left = [other for other in _finder.wanted.pop(name, []) if other != told]
    if left:
        _finder.wanted[name] = left
    if not _finder.wanted and _finder in sys.meta_path:
        sys.meta_path.remove(_finder)


def _tell_after(spec: ModuleSpec, wanted: Sequence[Told]) -> None:
    """Have this spec's own loader tell when it has executed the module; the loader itself stays."""
    loader = spec.loader
    original = getattr(loader, "exec_module", None)
    if loader is None or original is None:
        return

    def exec_module(module: ModuleType) -> None:
        vars(loader).pop("exec_module", None)
        original(module)
        for told in list(wanted):
            with quietly(f"the import of {module.__name__}"):
                told(module)

    loader.exec_module = exec_module  # type: ignore[method-assign]  # of this instance only
