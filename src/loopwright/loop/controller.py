"""The controller: a thread that runs every loop of a workspace for ever, and can be killed at any line.

All that it knows is in the database; each decision is one transaction that compares before it sets, so that a second
controller, or the same one after a kill, can neither skip a decision nor take it twice. A lease keeps the others idle.
"""

from __future__ import annotations

import logging
import threading
import time

from loopwright.core import LoopwrightError, Unavailable
from loopwright.loop.jobs import Jobs
from loopwright.loop.lease import Lease
from loopwright.loop.model import Settled
from loopwright.loop.passing import Pass
from loopwright.loop.rooms import Rooms
from loopwright.loop.running import announce, withdraw

_log = logging.getLogger(__name__)
_STOP_S = 30.0
_RETRY_S = 1.0


class Controller:
    """Runs the loops of a workspace from `start()` to `stop()`. One per process and workspace; several processes may
    have one: a lease picks who acts."""

    def __init__(self, ws: Rooms, *, tick_s: float | None = None) -> None:
        """Args:
        ws: the workspace; its projects are all looked after.
        tick_s: how long to sleep, at most, when nothing wakes it; by default the workspace's setting.
        """
        self._ws, self._stores = ws, ws.stores
        self._tick_s = tick_s if tick_s is not None else ws.stores.location.settings.tick_s
        self._jobs = Jobs(ws.stores.data / "jobs", ws.stores.root, self.wake)
        self._lease = Lease(ws.stores)
        self._pass = Pass(ws, self._jobs, self._lease.keep)
        self._changed = threading.Condition()
        self._woken = self._stopping = False
        self._asked = self._settled = 0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin; a second start does nothing."""
        if self._thread is not None:
            return
        self._stopping = False
        self._ws.endpoints.publish()
        self._thread = threading.Thread(target=self._live, name="loopwright-controller", daemon=True)
        self._thread.start()
        announce(self._stores, self)

    def stop(self) -> None:
        """End: the pass under way is finished, training jobs are ended (they go on when a controller starts again), and
        the lease is given back."""
        withdraw(self._stores, self)
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(_STOP_S)
            self._thread = None
        self._jobs.stop_all()
        self._lease.give_back()

    def wake(self) -> None:
        """Let it look now instead of at its next tick."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def tick(self) -> bool:
        """One pass over everything in the caller's thread, for tests and tools; whether anything moved.

        Raises:
            Unavailable: another controller has the lease.
        """
        if not self._lease.take():
            raise Unavailable("another controller looks after this workspace", next_step="stop it first")
        return self._pass.run()

    def settle(self, timeout_s: float) -> Settled:
        """Wait until all is done that can be done now; see `loops.settle`."""
        begun = time.monotonic()
        with self._changed:
            self._asked += 1
            mine, self._woken = self._asked, True
            self._changed.notify_all()
            done = self._changed.wait_for(lambda: self._settled >= mine or self._stopping, timeout_s)
            settled = done and self._settled >= mine
        return Settled(
            settled=settled,
            now=self._stores.clock.now(),
            seconds=time.monotonic() - begun,
            waiting_for=[] if settled else self._waiting_for(),
        )

    def _live(self) -> None:
        while not self._stopping:
            with self._changed:
                asked, self._woken = self._asked, False
            busy, pause_s = self._look()
            with self._changed:
                if not busy:
                    self._settled = asked
                    self._changed.notify_all()
                if pause_s:
                    self._changed.wait_for(lambda: self._woken or self._stopping, pause_s)

    def _look(self) -> tuple[bool, float]:
        """Do what can be done: whether something is still under way, and how long to sleep at most before looking again
        (0: at once)."""
        try:
            if not self._lease.take():
                return True, self._tick_s
            if self._pass.run():
                return True, 0.0
            if self._pass.troubles:
                return True, max(_RETRY_S, self._tick_s)
            # A job that ended while the pass was under way is still to be looked at, though it runs no more.
            return bool(self._jobs.watched()), self._tick_s
        except LoopwrightError as error:
            _log.warning("the controller has to wait: %s", error)
        except Exception:  # noqa: BLE001 (as said below)
            # The controller outlives any defect in a pass; it is told, and the pass is tried again.
            _log.exception("the controller's pass failed")
        return True, max(_RETRY_S, self._tick_s)

    def _waiting_for(self) -> list[str]:
        jobs = [f"training job run:{run_id}" for run_id in self._jobs.any_running()]
        return jobs + list(self._pass.troubles) or ["the controller's pass under way"]
