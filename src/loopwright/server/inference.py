"""Keeps the inference process running beside the control app."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from loopwright.core import LoopwrightError

log = logging.getLogger("loopwright.server")

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 15.0
_HEALTHY_AFTER_S = 60.0
_LOOK_S = 0.05
_DRAIN_S = 4.0


class Running(Protocol):
    """What answers at `url`, as `loopwright.serve.InferenceProcess` and `Workers` do."""

    url: str

    @property
    def pid(self) -> int:
        """The id of the process, or of the first of several."""
        ...

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""
        ...

    def stop(self, timeout_s: float = ...) -> int:
        """End it: politely, and after `timeout_s` not."""
        ...


class InferenceKeeper:
    """Starts the process, starts it again when it dies (after a pause that doubles up to 15 s), and ends it.

    The process ends by itself when its parent does, so it never outlives a killed control app.
    """

    def __init__(self, launch: Callable[[], Running]) -> None:
        """Args:
        launch: starts one and waits until it can answer; raises a LoopwrightError where it cannot.
        """
        self._launch = launch
        self._stopping, self._ready = threading.Event(), threading.Event()
        self._running: Running | None = None
        self._thread = threading.Thread(target=self._keep, name="loopwright-inference", daemon=True)
        self.starts = 0

    def url(self) -> str | None:
        """Where it answers; None while it does not run."""
        running = self._running
        return None if running is None else running.url

    @property
    def pid(self) -> int | None:
        """The process's id while it runs."""
        running = self._running
        return None if running is None else running.pid

    def start(self) -> None:
        """Begin; `wait_ready` says when it answers."""
        self._thread.start()

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait for the first answerable moment; False if it did not come in time."""
        return self._ready.wait(timeout_s)

    def stop(self) -> None:
        """End the process and wait for its end; requests that it answers just now are answered first."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_DRAIN_S + 2.0)

    def _keep(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while not self._stopping.is_set():
            began = time.monotonic()
            why = self._run_once()
            if self._stopping.is_set():
                return
            pause_s = _FIRST_PAUSE_S if time.monotonic() - began > _HEALTHY_AFTER_S else pause_s
            log.warning("the inference process ended (%s); it starts again in %g s", why, pause_s)
            self._stopping.wait(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    def _run_once(self) -> str:
        """Run one process to its end, or to ours; why it ended."""
        self.starts += 1
        try:
            running = self._launch()
        except (LoopwrightError, OSError) as error:
            return str(error)
        self._running = running
        self._ready.set()
        try:
            while running.exit_code is None and not self._stopping.wait(_LOOK_S):
                pass
        finally:
            self._running = None
            code = running.stop(_DRAIN_S)
        return f"exit code {code}"
