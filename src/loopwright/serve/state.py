"""The state document: a JSON file that `release` writes and the inference process follows."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from loopwright.core import Corrupt, NotFound, Unavailable, decode, encode, new_id
from loopwright.serve.model import ServingState


def write_state(path: Path, state: ServingState) -> None:
    """Replace the document at once: a reader sees the old one or the new one, whole.

    Raises:
        Invalid: the state cannot be served.
        Unavailable: the disk is full or read-only.
    """
    state.check()
    temporary = path.with_name(f".{path.name}.{new_id()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(encode(state))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise Unavailable(
            f"the serving state {path} cannot be written: {error.strerror or error}",
            next_step="free some space, or make the folder writable",
        ) from error


def read_state(path: Path) -> ServingState:
    """The document.

    Raises:
        NotFound: there is none.
        Corrupt: it is no state document.
        Invalid: it cannot be served.
    """
    try:
        state: ServingState = decode(path.read_bytes(), ServingState)
    except FileNotFoundError:
        raise NotFound(f"there is no serving state {path}") from None
    except msgspec.MsgspecError as error:
        raise Corrupt(f"not a serving state: {error}", where=str(path)) from None
    state.check()
    return state
