"""Replies leave in one write, in order and whole."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from loopwright.server.joining import _Joining


class Wire:
    """A transport that notes each write, and whether it was closed after all of them."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.writes.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


async def turns(wire: Wire, *actions: Any) -> None:
    joining = _Joining(wire, asyncio.get_running_loop())  # type: ignore[arg-type]  # as much of a transport as is used
    for action in actions:
        if action is None:
            await asyncio.sleep(0)
        elif action == "close":
            joining.close()
        else:
            joining.write(action)
    await asyncio.sleep(0)
    assert joining.is_closing() is wire.closed


@pytest.mark.parametrize(
    ("actions", "writes"),
    [
        ([b"head", b"body"], [b"headbody"]),
        ([b"head", None, b"body"], [b"head", b"body"]),
        ([b"head", b"x" * 70_000, b"end"], [b"head" + b"x" * 70_000, b"end"]),
        ([b"head", b"body", "close"], [b"headbody"]),
        (["close"], []),
    ],
)
def test_what_is_written_in_one_turn_leaves_together(actions: list[Any], writes: list[bytes]) -> None:
    wire = Wire()
    asyncio.run(turns(wire, *actions))
    assert wire.writes == writes
    assert wire.closed is ("close" in actions)
