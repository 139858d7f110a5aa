"""The thread that seals events twice a second while a server runs."""

from __future__ import annotations

import logging
import threading

from loopwright.core import LoopwrightError
from loopwright.store.events.log import EventLog

_log = logging.getLogger(__name__)


class Sealer:
    """Seals in the background from `start()` to `stop()`. Several processes may run one each."""

    def __init__(self, events: EventLog, interval_s: float = 0.5) -> None:
        self._events, self._interval_s = events, interval_s
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to seal. A second start does nothing."""
        if self._thread is None:
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, name="loopwright-sealer", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Seal what is left, end the thread and wait for its end."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            self._seal()
        self._seal()

    def _seal(self) -> None:
        try:
            self._events.seal()
        except LoopwrightError as error:
            # The events are safe; only their sealing is late. The next turn tries again.
            _log.warning("events could not be sealed: %s", error)
