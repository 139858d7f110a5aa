"""The controllers of this process, by workspace, so that a request can wake one and wait for it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from loopwright.core import Unavailable

if TYPE_CHECKING:
    from loopwright.loop.controller import Controller
    from loopwright.store import Stores

_running: WeakValueDictionary[str, Controller] = WeakValueDictionary()
_lock = threading.Lock()


def announce(stores: Stores, controller: Controller) -> None:
    """Let requests find the controller of this workspace."""
    with _lock:
        _running[str(stores.data.resolve())] = controller


def withdraw(stores: Stores, controller: Controller) -> None:
    """The controller runs no longer."""
    with _lock:
        if _running.get(str(stores.data.resolve())) is controller:
            del _running[str(stores.data.resolve())]


def running_controller(stores: Stores) -> Controller:
    """The controller of this workspace in this process.

    Raises:
        Unavailable: there is none.
    """
    with _lock:
        found = _running.get(str(stores.data.resolve()))
    if found is None:
        raise Unavailable(
            "no controller of this workspace runs in this process",
            next_step="start `loopwright up` and ask it, or use Controller(workspace).start()",
        )
    return found


def wake_controller(stores: Stores) -> None:
    """Let the controller of this process, if there is one, look now; another process's looks within its tick."""
    with _lock:
        found = _running.get(str(stores.data.resolve()))
    if found is not None:
        found.wake()
