"""Who waits for events: one poll of the log for however many streams."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from loopwright.core import LoopwrightError
from loopwright.server.services import Services

log = logging.getLogger("loopwright.server")

POLL_S = 0.5


class Feed:
    """Knows the position of the newest event while somebody waits for it. Lives in one event loop."""

    def __init__(self, services: Services, head: Callable[[], int], poll_s: float = POLL_S) -> None:
        self._services, self._head, self._poll_s = services, head, poll_s
        self._changed = asyncio.Condition()
        self.position = 0
        self._waiting = 0
        self._task: asyncio.Task[None] | None = None
        self.closing = False

    async def wait_beyond(self, position: int, timeout_s: float) -> bool:
        """Wait until the log is longer than `position`; False after `timeout_s`, or when the server closes."""
        self._waiting += 1
        try:
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._poll(), name="loopwright-feed")
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: self.closing or self.position > position)
        except TimeoutError:
            return False
        finally:
            self._waiting -= 1
        return not self.closing

    async def close(self) -> None:
        """Let every waiter go."""
        self.closing = True
        async with self._changed:
            self._changed.notify_all()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _poll(self) -> None:
        while self._waiting and not self.closing:
            try:
                position = await self._services.in_thread(self._head)
            except LoopwrightError as error:
                log.warning("the event log cannot be read: %s", error)
                position = self.position
            if position > self.position:
                async with self._changed:
                    self.position = position
                    self._changed.notify_all()
            await asyncio.sleep(self._poll_s)
