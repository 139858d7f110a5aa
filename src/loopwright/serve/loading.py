"""A model that is being loaded, and the requests that wait for it: bounded in number and in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from loopwright.core import LoopwrightError, Unavailable

PATIENCE_S = 30.0
_MOST_WAITING = 4_096


class WaitingRoom:
    """How many requests wait for models to be loaded, in all."""

    def __init__(self, most: int = _MOST_WAITING, patience_s: float = PATIENCE_S) -> None:
        self.most, self.patience_s = most, patience_s
        self.count = 0


class Loading(Unavailable):
    """The model that was asked for is on its way into memory. Who asked may wait for it, and then ask again.

    A front that does not wait tells it as what it is: the model is not available yet.
    """

    def __init__(self, name: str, done: asyncio.Future[None], room: WaitingRoom) -> None:
        super().__init__(f"model {name!r} is being loaded", next_step="try again in a second")
        self._done, self._room = done, room

    def then(self, again: Callable[[], None], refuse: Callable[[LoopwrightError], None]) -> None:
        """Call `again` when the load has ended, well or not; `refuse` where that takes too long or too many wait."""
        room, loop = self._room, asyncio.get_running_loop()
        if room.count >= room.most:
            refuse(Unavailable(f"{room.count} requests wait for models already", next_step="try again in a second"))
            return
        room.count += 1

        def finished(_done: asyncio.Future[None]) -> None:
            room.count -= 1
            timer.cancel()
            again()

        def expired() -> None:
            if self._done.remove_done_callback(finished):
                room.count -= 1
                refuse(self)

        timer = loop.call_later(room.patience_s, expired)
        self._done.add_done_callback(finished)

    async def wait(self) -> None:
        """Wait until the load has ended, well or not.

        Raises:
            Unavailable: that takes too long, or too many wait.
        """
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def refuse(error: LoopwrightError) -> None:
            if not ended.done():
                ended.set_exception(error)

        self.then(lambda: None if ended.done() else ended.set_result(None), refuse)
        await ended
