"""The prediction log: every answer is in a journal before it is sent.

A record is in MessagePack: the rows of one run of a model (`batch_record.BatchRecord`) or a single row (`Record`).
The names of its columns, which are the same for each row of a model, are kept once: in a file of the folder `columns/`
beside the journal's segments, named by their digest and written before the first record that refers to it.
"""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from loopwright.core import Corrupt, Invalid, Unavailable, decode, digest_value, encode, new_id
from loopwright.serve.batch_record import KIND, BatchRecord, predictions_of
from loopwright.serve.model import Prediction, PredictionStatus
from loopwright.store import Cursor, JournalReader, JournalWriter

_COLUMNS = "columns"
_KEY_DIGITS = 16
_ALL = 1 << 62
_KEY_FILE = "hash.key"
_SECRET_BYTES = 32
_LOOK_EVERY_S = 1.0
FSYNC_VARIABLE, _GIB = "LOOPWRIGHT_LOG_FSYNC_MS", "LOOPWRIGHT_LOG_GIB"


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A prediction as the journal holds it. Fields are only ever added at the end."""

    id: str
    endpoint: str
    variant: str
    model: str
    event_time: int
    received_at: int
    key: str
    columns: str
    features: list[Any]
    outputs: dict[str, Any]
    latency_us: int
    status: PredictionStatus = PredictionStatus.OK
    shadow_of: str = ""
    rollout: str = ""
    error: str = ""

    def __len__(self) -> int:
        return 1


class PredictionLog:
    """Appends predictions. Used by the event loop alone; an append costs one write to the system for a whole batch."""

    def __init__(
        self,
        folder: Path,
        *,
        segment_bytes: int = 64 << 20,
        fsync_every_s: float | None = 0.1,
        most_bytes: int = 16 << 30,
    ) -> None:
        """Args:
        folder: the journal's; other processes may write to it as well.
        segment_bytes: when a new segment is begun.
        fsync_every_s: how long a record may wait to be put on the disk; kill -9 loses none that was appended. 0 puts
            each batch on the disk before its answers leave; None leaves that to the system.
        most_bytes: how much may wait in the folder for compaction, which takes away what it has put into tables.
        """
        self._most_bytes, self._is_full, self._look_at_s = most_bytes, False, 0.0
        self._folder = folder
        self._writer = JournalWriter(folder, segment_bytes=segment_bytes, fsync_every_s=fsync_every_s)
        self._encode = msgspec.msgpack.Encoder().encode
        self.records = 0
        self._secret = b""

    @classmethod
    def from_environment(cls, folder: Path, environment: Mapping[str, str]) -> PredictionLog:
        """The log as the environment wants it: `LOOPWRIGHT_LOG_FSYNC_MS` (100; 0 for each batch before its answers
        leave) and `LOOPWRIGHT_LOG_GIB` (16), how much may wait for compaction.

        Raises:
            Invalid: one of them is no number.
        """
        fsync_ms, gib = (_number(environment, name, usual) for name, usual in ((FSYNC_VARIABLE, 100.0), (_GIB, 16.0)))
        return cls(folder, fsync_every_s=fsync_ms / 1000, most_bytes=int(gib * (1 << 30)))

    def columns_key(self, names: Sequence[str]) -> str:
        """The key under which records refer to these column names, which are on the disk when this returns.

        Raises:
            Unavailable: the folder cannot be written.
        """
        key = digest_value(list(names))[:_KEY_DIGITS]
        path = self._folder / _COLUMNS / f"{key}.json"
        if path.exists():
            return key
        temporary = path.with_name(f".{key}.{new_id()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(encode(list(names)))
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            raise Unavailable(f"the prediction log {self._folder} cannot be written: {error.strerror}") from error
        return key

    def secret(self) -> bytes:
        """The key of this log's hashes: made once, and kept beside the journal for its owner alone.

        Raises:
            Unavailable: the folder cannot be read or written.
        """
        if not self._secret:
            self._secret = _kept_secret(self._folder)
        return self._secret

    def append(self, records: Sequence[Record | BatchRecord]) -> None:
        """Write records, all or none, with one call; when this returns they outlive the process.

        Raises:
            Unavailable: the disk is full, read-only or failing, or the log has all the bytes that it may have.
        """
        now_s = time.monotonic()
        if now_s >= self._look_at_s:
            self._look_at_s = now_s + _LOOK_EVERY_S
            self._is_full = _bytes_in(self._folder) >= self._most_bytes
        if self._is_full:
            raise Unavailable(
                f"the prediction log {self._folder} has its {self._most_bytes} bytes",
                next_step="is `loopwright up` running? it moves predictions on into tables",
            )
        self._writer.append_many([self._encode(record) for record in records])
        self.records += sum(map(len, records))

    def close(self) -> None:
        """Put everything on the disk and finish the segment."""
        self._writer.close()


class NoPredictionLog(PredictionLog):
    """For serving without a log: nothing is written. Endpoints that are served so have a policy that logs no row."""

    def __init__(self) -> None:
        self.records = 0

    def columns_key(self, names: Sequence[str]) -> str:
        """No key: no record will refer to it."""
        return ""

    def append(self, records: Sequence[Record | BatchRecord]) -> None:
        """Keep nothing."""

    def close(self) -> None:
        """Nothing is open."""


def _number(environment: Mapping[str, str], name: str, usual: float) -> float:
    try:
        found = float(environment.get(name) or usual)
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        raise Invalid(f"{name} is {environment[name]!r}", next_step="give a number, 0 or more")
    return found


def _bytes_in(folder: Path) -> int:
    """How much is in a journal; what cannot be looked at does not count, and will be met when it is written to."""
    try:
        return sum(segment.size_bytes for segment in JournalReader(folder).segments())
    except OSError:
        return 0


def _kept_secret(folder: Path) -> bytes:
    path = folder / _KEY_FILE
    try:
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            fresh = folder / f".{_KEY_FILE}.{new_id()}"
            with os.fdopen(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
                file.write(secrets.token_bytes(_SECRET_BYTES))
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):  # another worker was quicker, and its key stays
                os.link(fresh, path)
            fresh.unlink()
        return path.read_bytes()
    except OSError as error:
        raise Unavailable(f"the key of hashes {path} cannot be kept: {error.strerror}") from error


def read_predictions(
    folder: Path, cursor: Cursor | None = None, limit: int = 10_000
) -> tuple[list[Prediction], Cursor]:
    """Predictions that the cursor has not passed, in each writer's order, and the cursor behind them.

    There are `limit` of them, or a few more: what was answered at once is read at once. Fewer are all that there are.

    Raises:
        Corrupt: a record was damaged after it was written.
    """
    columns = _Columns(folder)
    found: list[Prediction] = []

    def enough(payload: bytes) -> bool:
        found.extend(_predictions(payload, columns))
        return len(found) >= limit

    _, behind = JournalReader(folder).read_batch(cursor or Cursor(), limit, enough)
    return found, behind


def predictions_between(folder: Path, after: Cursor, until: Cursor) -> Iterator[Prediction]:
    """The predictions behind one cursor, up to another that a reader gave: the same ones each time, however much was
    written since.

    Raises:
        Corrupt: a record was damaged after it was written.
    """
    columns = _Columns(folder)
    for at, payload in JournalReader(folder).read(after, limit=_ALL):
        if at.offset < until.offsets.get(at.segment, 0):
            yield from _predictions(payload, columns)


class _Columns(dict[str, tuple[str, ...]]):
    """Column names by key, read once each."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def __missing__(self, key: str) -> tuple[str, ...]:
        path = self._folder / _COLUMNS / f"{key}.json"
        try:
            names = tuple(decode(path.read_bytes(), list[str]))
        except FileNotFoundError:
            raise Corrupt(f"the prediction log lacks the column names {key!r}", where=str(path)) from None
        self[key] = names
        return names


_decode_row = msgspec.msgpack.Decoder(Record).decode
_decode_batch = msgspec.msgpack.Decoder(BatchRecord).decode


def _predictions(payload: bytes, columns: _Columns) -> list[Prediction]:
    """The rows of one record. A batch begins with its kind, a small number, where a row begins with its id."""
    try:
        if payload[1] == KIND:
            record = _decode_batch(payload)
            return predictions_of(record, columns[record.by.columns])
        return [_prediction(_decode_row(payload), columns)]
    except (msgspec.MsgspecError, ValueError, IndexError) as error:
        raise Corrupt(f"a record of the prediction log cannot be read: {error}") from None


def _prediction(r: Record, columns: _Columns) -> Prediction:
    return Prediction(
        r.id,
        r.endpoint,
        r.variant,
        r.model,
        r.event_time,
        r.received_at,
        r.key,
        columns[r.columns],
        r.features,
        r.outputs,
        r.latency_us,
        r.status,
        r.shadow_of,
        r.rollout,
        r.error,
    )
