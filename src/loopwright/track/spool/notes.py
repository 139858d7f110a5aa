"""What a spool's notes say, and the batches that carry them to a workspace."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from loopwright.track.model import RunInput, RunStatus

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class RunBegan(msgspec.Struct, frozen=True, tag="run", omit_defaults=True):
    """A run is recorded here. `resume`: it was asked for by its id, and goes on even if it had ended."""

    run: str
    experiment: str
    name: str
    at_us: int
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    parent: str = ""
    kind: str = "run"
    resume: bool = False


class SeriesNamed(msgspec.Struct, frozen=True, tag="series"):
    """Which run and key the numbers of points stand for."""

    series: list[tuple[int, str, str]]


class TextsSet(msgspec.Struct, frozen=True, tag="texts", omit_defaults=True):
    """Params and tags of a run."""

    run: str
    params: dict[str, str] = {}
    tags: dict[str, str] = {}


class InputsRead(msgspec.Struct, frozen=True, tag="inputs"):
    """Pinned things that a run read."""

    run: str
    inputs: list[RunInput]


class FileKept(msgspec.Struct, frozen=True, tag="file"):
    """A file of a run, which lies in the spool's folder `files` under the name `file`."""

    run: str
    path: str
    file: str
    size_bytes: int


class RunEnded(msgspec.Struct, frozen=True, tag="end"):
    """A run has ended."""

    run: str
    status: RunStatus
    error: str
    at_us: int


Note = RunBegan | SeriesNamed | TextsSet | InputsRead | FileKept | RunEnded


class Points(msgspec.Struct, frozen=True):
    """Points of one metric in columns, as little-endian bytes of int64, int64 and float64."""

    run: str
    key: str
    steps: bytes
    times_us: bytes
    values: bytes

    def columns(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Steps, Unix microseconds, values.

        Raises:
            ValueError: they are not equally long.
        """
        import numpy as np

        steps = np.frombuffer(self.steps, dtype="<i8")
        times, values = np.frombuffer(self.times_us, dtype="<i8"), np.frombuffer(self.values, dtype="<f8")
        if not len(steps) == len(times) == len(values):
            raise ValueError("columns of different length")
        return steps, times, values


class SpoolBatch(msgspec.Struct, frozen=True):
    """What a piece of a spool's segment says. It is applied once, only where `start` is how far the workspace has come.

    start, end: bytes from the segment's beginning. A batch with `end` = `start` only asks for the position.
    """

    spool: str
    segment: int
    start: int
    end: int
    notes: list[Note] = []
    points: list[Points] = []


class Refusal(msgspec.Struct, frozen=True):
    """A part of a batch that the workspace cannot keep, and why."""

    run: str
    what: str
    reason: str


class Outcome(msgspec.Struct, frozen=True):
    """How far a workspace has come in a segment, and what of the batch it could not keep."""

    position: int
    refused: list[Refusal] = []


_NOTE_ENCODER = msgspec.msgpack.Encoder()
_NOTE_DECODER: msgspec.msgpack.Decoder[Note] = msgspec.msgpack.Decoder(Note)


def encode_note(note: Note) -> bytes:
    """A note's payload."""
    return _NOTE_ENCODER.encode(note)


def decode_note(payload: bytes) -> Note:
    """The note of a payload.

    Raises:
        msgspec.DecodeError: it is none, or one of a newer version.
    """
    return _NOTE_DECODER.decode(payload)
