"""Which endpoint a worker answered for when it ended: the board has a number, a file beside it the names."""

from __future__ import annotations

import contextlib
from collections import deque
from pathlib import Path

import msgspec

from loopwright.core import LoopwrightError
from loopwright.serve.outs import Outs

OUTS = "outs.json"
MOST_ENDS = 3
WITHIN_S = 120.0


def write_names(folder: Path, pid: int, names: list[str]) -> None:
    """Keep the endpoints that a worker has numbered, from 1."""
    with contextlib.suppress(OSError):  # then an end has no name, and is told of without
        fresh = folder / f"{pid}.new-names"
        fresh.write_bytes(msgspec.json.encode(names))
        fresh.replace(_file(folder, pid))


def name_of(folder: Path, pid: int, number: int) -> str:
    """The endpoint that a worker had under a number; empty where it had none."""
    try:
        names = msgspec.json.decode(_file(folder, pid).read_bytes(), type=list[str])
    except (OSError, msgspec.MsgspecError):
        return ""
    return names[number - 1] if 0 < number <= len(names) else ""


def forget_names(folder: Path, pid: int) -> None:
    """Remove what a worker has left."""
    _file(folder, pid).unlink(missing_ok=True)


class Blame:
    """Counts the workers that ended while they answered for an endpoint; who ends too many is taken out.

    The other endpoints then go on, and a person decides. Loading it by name brings it back.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ends: dict[str, deque[float]] = {}

    def note(self, name: str, now_s: float) -> bool:
        """A worker ended under an endpoint; whether that is taken out for it."""
        ends = self._ends.setdefault(name, deque(maxlen=MOST_ENDS))
        ends.append(now_s)
        if len(ends) < MOST_ENDS or now_s - ends[0] > WITHIN_S:
            return False
        ends.clear()
        try:
            Outs(self._folder / OUTS).add(name)
        except LoopwrightError:
            return False
        return True


def _file(folder: Path, pid: int) -> Path:
    return folder / f"{pid}.names"
