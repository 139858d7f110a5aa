"""Staying awake after lone answers: for as long as it is of use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from loopwright.serve.lingering import Lingering


class Loop:
    """An event loop whose turns take a microsecond each."""

    def __init__(self) -> None:
        self.now_s, self.turns = 100.0, 0
        self._soon: list[tuple[Callable[..., None], tuple[Any, ...]]] = []

    def call_soon(self, call: Callable[..., None], *values: Any) -> None:
        self._soon.append((call, values))

    def until(self, time_s: float) -> None:
        while self._soon and self.now_s < time_s:
            [(call, values)], self._soon = self._soon, []
            self.turns += 1
            self.now_s += 1e-6
            call(*values)
        self.now_s = max(self.now_s, time_s)


def turns(apart_s: float, answers: int, cores: int = 2) -> int:
    """Turns of a loop that answers a lone request so often."""
    loop: Any = Loop()
    lingering = Lingering(lambda: loop.now_s, cores)
    for _ in range(answers):
        lingering.answered(loop)
        loop.until(loop.now_s + apart_s)
    found: int = loop.turns
    return found


def test_a_client_that_asks_again_at_once_finds_the_server_awake() -> None:
    assert turns(100e-6, 1000) >= 99 * 1000


def test_with_slow_clients_the_server_sleeps() -> None:
    assert turns(0.01, 10_000) < 25 * 251


def test_a_machine_with_one_core_sleeps_always() -> None:
    assert turns(100e-6, 1000, cores=1) == 0


def test_a_loop_that_ended_while_awake_is_left_alone() -> None:
    async def answer(lingering: Lingering) -> None:
        lingering.answered(asyncio.get_running_loop())

    lingering = Lingering()
    for _ in range(3):
        asyncio.run(answer(lingering))
