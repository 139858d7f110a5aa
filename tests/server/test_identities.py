"""Requests share a look-up of who they are only where it began after all of them came."""

from __future__ import annotations

import asyncio

import pytest

from loopwright.core import Unauthorized
from loopwright.govern import Identity
from loopwright.server.identities import Identities


class Gate:
    """Answers when it is told to; counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.revoked = False
        self.open = asyncio.Event()

    async def lookup(self, secret: str) -> Identity:
        self.asked += 1
        revoked = self.revoked  # what the database said when the look-up began
        await self.open.wait()
        if revoked or secret == "wrong":
            raise Unauthorized("no")
        return Identity(f"user:{secret}", {})


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_requests_of_one_moment_share_a_look_up() -> None:
    async def story() -> None:
        gate = Gate()
        identities = Identities(gate.lookup)
        asks = [asyncio.create_task(identities.of(secret)) for secret in ("ann", "ann", "bob", "ann")]
        await settle()
        gate.open.set()
        found = await asyncio.gather(*asks)
        assert [identity.actor for identity in found] == ["user:ann", "user:ann", "user:bob", "user:ann"]
        assert gate.asked == 2

    asyncio.run(story())


def test_a_request_never_takes_the_answer_of_a_look_up_that_began_before_it_came() -> None:
    async def story() -> None:
        gate = Gate()
        identities = Identities(gate.lookup)
        before = asyncio.create_task(identities.of("ann"))
        await settle()
        gate.revoked = True
        after = [asyncio.create_task(identities.of("ann")) for _ in range(3)]
        await settle()
        gate.open.set()
        assert (await before).actor == "user:ann"
        told = await asyncio.gather(*after, return_exceptions=True)
        assert all(isinstance(error, Unauthorized) for error in told)
        assert gate.asked == 2

    asyncio.run(story())


def test_nothing_is_kept_between_requests() -> None:
    async def story() -> None:
        gate = Gate()
        gate.open.set()
        identities = Identities(gate.lookup)
        assert (await identities.of("ann")).actor == "user:ann"
        gate.revoked = True
        with pytest.raises(Unauthorized):
            await identities.of("ann")

    asyncio.run(story())


def test_one_who_leaves_takes_nothing_from_the_others() -> None:
    async def story() -> None:
        gate = Gate()
        identities = Identities(gate.lookup)
        one, other = (asyncio.create_task(identities.of("ann")) for _ in range(2))
        await settle()
        one.cancel()
        gate.open.set()
        assert (await other).actor == "user:ann"

    asyncio.run(story())
