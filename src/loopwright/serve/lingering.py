"""Staying awake for a moment after a lone answer.

A client that asks again as soon as it is answered sends its next request before a process that had gone to sleep is
awake again: that costs both of them more than the request does. So the event loop looks for it a few times before it
sleeps. Where nothing comes, less and less of that is done: a server with slow or distant clients sleeps as always.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable

_MOMENT_S = 250e-6
_MOST_REST = 1024  # answers between two tries


class Lingering:
    """How long to stay awake after lone answers, told from whether that was of use before.

    Args:
        now_s: the clock.
        cores: of the machine; with one, the client waits for the very core.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic, cores: int = os.cpu_count() or 1) -> None:
        self._now_s, self._is_of_use = now_s, cores > 1
        self._until_s, self._rest, self._skip = 0.0, 1, 0
        self._is_awake = False

    def answered(self, loop: asyncio.AbstractEventLoop) -> None:
        """A lone request was answered, and nothing else waits."""
        now_s = self._now_s()
        if self._until_s:
            self._rest = 1 if now_s <= self._until_s else min(2 * self._rest, _MOST_REST)
            self._skip = 0 if self._rest == 1 else self._rest
            self._until_s = 0.0
        if self._skip:
            self._skip -= 1
        elif self._is_of_use:
            self._until_s = now_s + _MOMENT_S
            if not self._is_awake:
                self._is_awake = True
                loop.call_soon(self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._is_awake = self._now_s() < self._until_s
        if self._is_awake:
            loop.call_soon(self._look, loop)
