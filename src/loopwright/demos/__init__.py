"""Demos: whole projects on real data that ship with packages, told by a driver through the public doors.

The face is lazy (PEP 562), so that a command's help does not load a story.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loopwright.demos.flights.ending import print_ending
    from loopwright.demos.flights.story import FlightsStory
    from loopwright.demos.narrator import Narrator
    from loopwright.demos.process import UpProcess

_HOME_OF = {
    "FlightsStory": "flights.story",
    "Narrator": "narrator",
    "UpProcess": "process",
    "print_ending": "flights.ending",
}

__all__ = ["FlightsStory", "Narrator", "UpProcess", "print_ending"]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
