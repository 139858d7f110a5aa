"""Errors of ours never reach the training: each kind is told once, with its traceback at the level debug."""

from __future__ import annotations

import logging
from types import TracebackType

log = logging.getLogger("loopwright.autolog")

_MAX_KNOWN = 1_000
_known: set[tuple[str, type[BaseException]]] = set()


class quietly:
    """Report what fails in a block, once for each kind, and go on after it. Interrupts pass."""

    __slots__ = ("what",)

    def __init__(self, what: str) -> None:
        """Args:
        what: what is lost when the block fails, as the message names it.
        """
        self.what = what

    def __enter__(self) -> quietly:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if kind is None or error is None:
            return False
        if not issubclass(kind, Exception):
            return False
        report(self.what, error)
        return True


def report(what: str, error: BaseException) -> None:
    """Tell that something could not be recorded."""
    known = (what, type(error))
    try:
        if known not in _known and len(_known) < _MAX_KNOWN:
            _known.add(known)
            log.warning(
                "autolog lost %s, and the training goes on: %s: %s", what, type(error).__name__, _text_of(error)
            )
            log.debug("autolog lost %s", what, exc_info=error)
    except Exception:  # noqa: S110, BLE001 - a broken logger is no reason to stop
        pass


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - whatever the error's own code raises
        return "(it has no text)"


def forget_reports() -> None:
    """Tell everything again."""
    _known.clear()
