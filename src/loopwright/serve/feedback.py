"""Feedback at the inference process: on its disk before it is acknowledged, in the journal that monitors read.

What arrives while the disk is busy is written with the next call, so that many callers share a sync.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import msgspec

from loopwright.core import Invalid, LoopwrightError, Unavailable, decode, encode, is_id
from loopwright.serve.metrics import Figure
from loopwright.store import Cursor, JournalReader, JournalWriter

ROWS_PER_RECORD = 1000
MOST_ROWS = 100_000
_SEGMENT_BYTES = 16 << 20
_MOST_BYTES = 4 << 30
_MOST_WAITING = 1_024
_LOOK_EVERY_S = 1.0
_DELIVERED = "delivered.json"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WHOLE = (-(2**63), 2**63 - 1)
_FORM = 'send {"prediction_id": "…", "value": 1}, or {"rows": [...]} with several'


class FeedbackRow(msgspec.Struct, frozen=True, array_like=True):
    """One row as it lies in the journal. `at` and `received_at` are microseconds since 1970."""

    prediction_id: str
    value: str | int | float | bool
    at: int
    received_at: int

    @property
    def known_at(self) -> datetime:
        """When the truth became known."""
        return _EPOCH + timedelta(microseconds=self.at)


class FeedbackRecord(msgspec.Struct, frozen=True, array_like=True):
    """Up to 1,000 rows of one endpoint: one record of the journal."""

    project: str
    endpoint: str
    rows: list[FeedbackRow]


class GivenFeedback(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The truth about one prediction, as a request brings it; `at` is when it became known, by default now."""

    prediction_id: str
    value: str | int | float | bool
    at: datetime | None = None


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of them, or several."""

    rows: list[GivenFeedback] | None = None
    prediction_id: str | None = None
    value: str | int | float | bool | None = None
    at: datetime | None = None


_decode = msgspec.json.Decoder(_Body).decode


class _Given(Protocol):
    @property
    def prediction_id(self) -> str: ...
    @property
    def value(self) -> str | int | float | bool: ...
    @property
    def at(self) -> datetime | None: ...


def feedback_rows(given: Sequence[_Given], now: datetime) -> list[FeedbackRow]:
    """Rows for the journal.

    Args:
        now: when they came; and when they became known, where they say not.

    Raises:
        Invalid: an id or a time is malformed, or a whole number has more than 64 bits; the row is named.
    """
    return [_row(place, row, now) for place, row in enumerate(given)]


def pack_feedback(project: str, endpoint: str, rows: Sequence[FeedbackRow]) -> list[bytes]:
    """The journal's records of rows."""
    return [
        msgspec.msgpack.encode(FeedbackRecord(project, endpoint, list(rows[start : start + ROWS_PER_RECORD])))
        for start in range(0, len(rows), ROWS_PER_RECORD)
    ]


class FeedbackIntake:
    """Takes feedback into a journal. Lives on one event loop."""

    def __init__(self, folder: Path) -> None:
        """Args:
        folder: of the journal; other processes may write to it as well.
        """
        self._folder = folder
        self._writer = JournalWriter(folder, segment_bytes=_SEGMENT_BYTES, fsync_every_s=0)
        self._waiting: list[tuple[list[bytes], asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None
        self._look_at_s, self._is_full = 0.0, False
        self.rows = 0

    async def take(self, project: str, endpoint: str, body: bytes) -> int:
        """Put the rows of a request on the disk; how many. All of them are there when this returns, or none.

        Args:
            project: whose endpoint it is; empty for the usual one.
            body: `{"prediction_id": …, "value": …, "at": …}`, or `{"rows": [...]}` with several such.

        Raises:
            Invalid: the body has another form, an id or a time is malformed, or there are too many rows.
            Unavailable: the disk is full or read-only, or too many requests wait for it.
        """
        rows = feedback_rows(read_feedback(body), datetime.now(UTC))
        if len(self._waiting) >= _MOST_WAITING:
            raise Unavailable(f"{len(self._waiting)} requests wait for the disk", next_step="try again in a second")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((pack_feedback(project or "default", endpoint, rows), future))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._write(), name="loopwright-feedback")
        await future
        self.rows += len(rows)
        return len(rows)

    def figures(self) -> list[Figure]:
        """What Prometheus is told."""
        return [("feedback_rows_total", "counter", "Rows of feedback that were put on the disk.", self.rows)]

    async def close(self) -> None:
        """Write what waits, and close the journal."""
        if self._task is not None:
            await self._task
        await asyncio.to_thread(self._writer.close)

    async def _write(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            failure: LoopwrightError | None = None
            try:
                await asyncio.to_thread(self._append, [record for records, _ in waiting for record in records])
            except LoopwrightError as error:
                failure = error
            for _, future in waiting:
                if failure is None:
                    future.set_result(None)
                else:
                    future.set_exception(failure)
        self._task = None

    def _append(self, records: list[bytes]) -> None:
        if time.monotonic() >= self._look_at_s:
            self._look_at_s = time.monotonic() + _LOOK_EVERY_S
            self._is_full = sum(segment.size_bytes for segment in JournalReader(self._folder).segments()) >= _MOST_BYTES
        if self._is_full:
            raise Unavailable(
                f"the feedback journal has its {_MOST_BYTES} bytes",
                next_step="is `loopwright up` running? it moves feedback on into tables",
            )
        self._writer.append_many(records)


def deliver_feedback(folder: Path, send: Callable[[FeedbackRecord], object]) -> int:
    """Hand on what a journal holds and was not handed on yet, in its order; how many rows. One process at a time.

    What was handed on is noted after it was taken: killed in between, the same records are handed on again, rows and
    times alike, which the receiver counts once.

    Args:
        send: takes a record, or raises.

    Raises:
        Unavailable: the folder cannot be written.
        LoopwrightError: what `send` raises; the next call goes on from there.
    """
    reader, place, rows = JournalReader(folder), folder / _DELIVERED, 0
    try:
        cursor: Cursor = decode(place.read_bytes(), Cursor) if place.exists() else Cursor()
        while (found := reader.read_batch(cursor, 1))[0]:
            [(_, payload)], cursor = found
            record = msgspec.msgpack.decode(payload, type=FeedbackRecord)
            send(record)
            rows += len(record.rows)
            _note(place, cursor)
        reader.drop_read(cursor)
    except OSError as error:
        raise Unavailable(f"the feedback journal {folder} cannot be kept: {error.strerror or error}") from error
    return rows


def _note(place: Path, cursor: Cursor) -> None:
    fresh = place.with_name(f".{place.name}.new")
    with fresh.open("wb") as file:
        file.write(encode(cursor))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(place)


def read_feedback(body: bytes) -> list[GivenFeedback]:
    """The rows in the body of a request.

    Raises:
        Invalid: it has another form, or there are too many of them.
    """
    try:
        told = _decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Invalid(f"the feedback cannot be read: {error}", next_step=_FORM) from None
    if (told.rows is None) == (told.prediction_id is None) or (told.rows is None and told.value is None):
        raise Invalid("the request has neither one row of feedback nor several", next_step=_FORM)
    given = told.rows
    if given is None:
        given = [msgspec.convert(told, GivenFeedback, from_attributes=True)]
    if not 0 < len(given) <= MOST_ROWS:
        raise Invalid(f"{len(given)} rows of feedback", next_step=f"send 1 to {MOST_ROWS} at a time")
    return given


def _row(place: int, row: _Given, now: datetime) -> FeedbackRow:
    identifier = row.prediction_id.removeprefix("prediction:")
    if not is_id(identifier):
        raise Invalid(
            f"{row.prediction_id[:60]!r} is not the id of a prediction",
            where=f"row {place}",
            next_step="send an id from prediction_ids of an answer",
        )
    at = now if row.at is None else row.at
    if at.tzinfo is None:
        raise Invalid(f"the time {at.isoformat()} has no zone", where=f"row {place}", next_step="send it in UTC")
    if isinstance(row.value, int) and not _WHOLE[0] <= row.value <= _WHOLE[1]:
        raise Invalid(
            "the value does not fit 64 bits", where=f"row {place}", next_step="send a number that can be true"
        )
    return FeedbackRow(identifier, row.value, _microseconds(at), _microseconds(now))


def _microseconds(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)
