"""A breaker: who does not answer is left alone for a while, so that those who would wait for it are told at once."""

from __future__ import annotations

import time
from collections.abc import Callable

from loopwright.core import Unavailable

_FAILURES = 3
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0


class Breaker:
    """Closed while somebody answers; open for a pause after failures in a row; then one question decides.

    The pause doubles with each question that fails, up to 30 s. Not thread-safe.
    """

    def __init__(self, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Args:
        what: who is asked, as an error tells it: "the online store".
        clock: in seconds.
        """
        self._what, self._clock = what, clock
        self._failures = 0
        self._pause_s, self._open_until = _FIRST_PAUSE_S, 0.0
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Whether nobody may ask now."""
        return self._probing or self._clock() < self._open_until

    def enter(self) -> None:
        """Ask for leave to ask; `worked`, `failed` or `left` must follow.

        Raises:
            Unavailable: it is open.
        """
        if self.is_open:
            raise Unavailable(f"{self._what} does not answer", next_step="try again in a second")
        self._probing = self._failures >= _FAILURES

    def left(self) -> None:
        """Nobody was asked after all."""
        self._probing = False

    def worked(self) -> None:
        """An answer came."""
        self._failures, self._pause_s, self._open_until, self._probing = 0, _FIRST_PAUSE_S, 0.0, False

    def failed(self) -> None:
        """None came."""
        self._failures += 1
        if self._failures < _FAILURES:
            return
        if self._probing:
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        self._probing = False
        self._open_until = self._clock() + self._pause_s
