"""Who stands behind a token, looked up once for all requests that wait for the same answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from loopwright.govern import Identity

Lookup = Callable[[str], Awaitable[Identity]]


class Identities:
    """Look-ups that requests share. Nothing is kept beyond them: a request is answered by a look-up that began after
    it came, so that a token revoked before is refused."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._waiting: dict[str, asyncio.Future[Identity]] = {}
        self._workers: dict[str, asyncio.Task[None]] = {}

    async def of(self, secret: str) -> Identity:
        """The identity that a secret proves.

        Raises:
            Unauthorized: it proves none.
        """
        shared = self._waiting.get(secret)
        if shared is None:
            shared = self._waiting[secret] = asyncio.get_running_loop().create_future()
            if secret not in self._workers:
                self._workers[secret] = asyncio.create_task(self._work(secret))
        return await asyncio.shield(shared)

    async def _work(self, secret: str) -> None:
        """Look up for those who wait, and again for those who came meanwhile."""
        try:
            while (shared := self._waiting.pop(secret, None)) is not None:
                try:
                    shared.set_result(await self._lookup(secret))
                except Exception as error:  # noqa: BLE001 - each who waits raises it
                    shared.set_exception(error)
                    shared.exception()  # told, even where nobody waits any more
        finally:
            del self._workers[secret]
