"""A control app on a real socket in a thread of the test: hundreds of tests start one, so it ends at once."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette

_LOOK_S = 0.005
_PATIENCE_S = 1.0


class PromptServer(uvicorn.Server):
    """Looks each few milliseconds, not each tenth of a second, whether it shall end and whether all have gone."""

    async def main_loop(self) -> None:
        counter = 0
        while not await self.on_tick(counter):
            counter = (counter + 1) % 864_000
            await asyncio.sleep(_LOOK_S)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for listening in [*self.servers, *(sockets or [])]:
            listening.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        deadline = time.monotonic() + _PATIENCE_S
        while (self.server_state.connections or self.server_state.tasks) and time.monotonic() < deadline:
            await asyncio.sleep(_LOOK_S)
        for task in self.server_state.tasks:
            task.cancel()
        await self.lifespan.shutdown()


def begin(app: Starlette, listener: socket.socket, **options: Any) -> Callable[[], None]:
    """Serve an app; a function that ends it."""
    server = PromptServer(uvicorn.Config(app, log_config=None, access_log=False, **options))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server ended before it was ready"
        time.sleep(_LOOK_S)

    def end() -> None:
        app.state.feed.closing = True
        server.should_exit = True
        thread.join(10)

    return end


@contextlib.contextmanager
def serving(app: Starlette, listener: socket.socket, **options: Any) -> Iterator[None]:
    """Serve an app for as long as the block takes."""
    end = begin(app, listener, **options)
    try:
        yield
    finally:
        end()
