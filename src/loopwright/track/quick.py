"""Small groups of points, and params, on PostgreSQL in one round trip, for a caller that must not wait: an event loop.

One statement holds the runs, checks that each is there, adds series or moves their last values, and adds the points; it
does everything or nothing. A point that comes alone, as most do, has a statement of its own, which costs the database
half as much: to begin a plan takes longer than what it does. The params of one run have one, too. Runs that are not
there, tails that are long enough to be packed, params that would change, tags and large calls are left to
`loopwright.track.batches`.
"""

from __future__ import annotations

import logging
import struct
import time
from collections.abc import Mapping, Sequence
from typing import cast

from loopwright.store import Database
from loopwright.track import statements
from loopwright.track.arrays import BigInts, Floats, Texts
from loopwright.track.batches import Batch, run_id_of
from loopwright.track.bulk import StoredPoint, comparable
from loopwright.track.compaction import TAIL_LIMIT
from loopwright.track.keys import known_keys
from loopwright.track.values import head_of

log = logging.getLogger("loopwright.track")

_Place = tuple[str, str, int]
"""A project, a run's id, a key's number."""
_Asked = tuple[str, Sequence[bytes | None]]
"""A statement and its values, but for what its commit waits for."""
_PAUSE_S = 5.0
_NUMBER = struct.Struct(">q")
_INTEGER, _FLOAT = _NUMBER.pack, struct.Struct(">d").pack


class QuickWriter:
    """One group at a time: `begin`, `is_sent` until it is, then `outcome` whenever the socket can be read, until it
    says; `listen` when it can be read at any other time. Once it `is_lost`, `close` it. `open` may wait and belongs on
    a thread; the rest is for one event loop."""

    def __init__(self, database: Database, *, sync_every_s: float) -> None:
        """Args:
        sync_every_s: how often a group waits for the disk; with 0 each does. kill -9 of this process takes nothing
            that was acknowledged.
        """
        self._database = database
        self._sync_every_s, self._synced_at = sync_every_s, -sync_every_s
        self._link = database.link(statements.ALL)
        self._places: list[_Place] = []
        self._crowded: set[_Place] = set()
        self._again_at = 0.0
        self._is_lost = False

    @property
    def is_open(self) -> bool:
        """Whether `begin` makes sense."""
        return self._link.is_open

    def open(self) -> None:
        """Connect, which may take its time; a failure is noted only, since there is another way. After one, it is not
        tried for a while."""
        if time.monotonic() < self._again_at:
            return
        self._again_at = time.monotonic() + _PAUSE_S
        try:
            self._link.open()
        except Exception as error:  # noqa: BLE001 - the drivers' many kinds; what is missing is only speed
            log.info("no quick way to the database: %s", error)

    def fileno(self) -> int:
        """The socket to watch, until `is_lost`."""
        return self._link.fileno()

    @property
    def is_lost(self) -> bool:
        """Whether the connection is gone: watch it no more, then `close` it."""
        return self._is_lost

    def group_of(self, batch: Batch) -> str:
        """The group that a batch may go with: those with the same name together; empty where this is not for it."""
        if batch.tags or "\0" in batch.run or not batch.run.isascii():
            return ""
        if batch.params:
            return "" if len(batch.points) else f"{batch.project} {run_id_of(batch)}"
        few = isinstance(batch.points, dict) and all(isinstance(some, list) for some in batch.points.values())
        return "points" if few else ""

    def begin(self, batches: Sequence[Batch]) -> bool:
        """Send batches of one group; False, and nothing is done, where a key is not known yet, a tail has to be packed,
        a param is given two values, or the connection is gone."""
        asked = self._params(batches) if batches[0].params else self._points(batches)
        if asked is None:
            return False
        statement, values = asked
        try:
            self._link.send([*values, self._level()], statements.ALL.index(statement))
        except Exception as error:  # noqa: BLE001 - the drivers' many kinds; the other way tells what is wrong
            self._lose("the quick way to the database is closed", error)
            return False
        return True

    def is_sent(self) -> bool:
        """Whether the group has left; else call this again when the socket can be written."""
        try:
            return self._link.is_sent()
        except Exception:  # noqa: BLE001 - the drivers' many kinds; `outcome` meets it again, and tells
            return True

    def outcome(self) -> bool | None:
        """Whether all of the group is durable; None while that is open.

        False where nothing of it was stored, or where the database went away so that nobody knows; to store it once
        more does no harm, since a point is there only once.
        """
        try:
            rows = self._link.answer()
        except RuntimeError as error:
            log.info("a group is judged one by one, since the database refused it: %s", error)
            return False
        except Exception as error:  # noqa: BLE001 - the drivers' many kinds; the other way tells what is wrong
            self._lose("a group of metrics is stored once more", error)
            return False
        if rows is None:
            return None
        for place, tail, _ in rows:
            if tail is not None and place is not None and _NUMBER.unpack(tail)[0] >= TAIL_LIMIT:
                self._crowded.add(self._places[_NUMBER.unpack(place)[0]])
        return len(rows) == len(self._places)

    def listen(self) -> None:
        """Take what the database says while nothing was sent, such as its farewell."""
        try:
            self._link.listen()
        except Exception as error:  # noqa: BLE001 - the drivers' many kinds; the next group goes the other way
            self._lose("the quick way to the database is closed", error)

    def close(self) -> None:
        """Close the connection; `open` makes another."""
        self._link.close()
        self._is_lost = False

    def _lose(self, what: str, error: Exception) -> None:
        log.warning("%s: %s", what, error)
        self._is_lost = True

    def _level(self) -> bytes | None:
        """What the commit waits for: PostgreSQL's `synchronous_commit`; None for what it is set to."""
        now = time.monotonic()
        if now < self._synced_at + self._sync_every_s:
            return b"off"
        self._synced_at = now
        return None

    def _points(self, batches: Sequence[Batch]) -> _Asked | None:
        given = [(item, cast(Mapping[str, list[StoredPoint]], item.points)) for item in batches]
        keys = known_keys(self._database, {key for _, points in given for key in points})
        if keys is None:
            return None
        found: dict[_Place, list[StoredPoint]] = {}
        for item, points in given:
            for key, some in points.items():
                found.setdefault((item.project, run_id_of(item), keys[key]), []).extend(some)
        crowded = self._crowded & found.keys()
        self._crowded -= crowded
        if crowded or not found:
            return None
        self._places = list(found)
        [some, *others] = found.values()
        if not others and len(some) == 1:
            return statements.ONE_POINT, _one(self._places[0], some[0])
        return statements.POINTS, _values(found)

    def _params(self, batches: Sequence[Batch]) -> _Asked | None:
        found: dict[str, str] = {}
        for item in batches:
            if any(found.setdefault(key, text) != text for key, text in item.params.items()):
                return None
        keys = known_keys(self._database, found)
        if keys is None:
            return None
        project, run = batches[0].project, run_id_of(batches[0])
        self._places = [(project, run, 0)]
        texts = list(found.values())
        columns = BigInts([keys[key] for key in found]), Texts(texts), Texts([head_of(text) for text in texts])
        return statements.PARAMS, [run.encode(), project.encode(), *(column.data for column in columns)]


def _one(place: _Place, point: StoredPoint) -> list[bytes | None]:
    """The values of the statement for one point."""
    (project, run, key), (step, at_us, bits), value = place, point, comparable(point[2])
    return [
        *(run.encode(), project.encode(), _INTEGER(key), _INTEGER(step), _INTEGER(at_us), _INTEGER(bits)),
        None if value is None else _FLOAT(value),
    ]


def _values(points: dict[_Place, list[StoredPoint]]) -> list[bytes]:
    """The statement's values: what belongs to each series, and the points, each with the place of its series."""
    lasts = [max(some) for some in points.values()]
    rows = [(place, *point) for place, some in enumerate(points.values()) for point in some]
    columns: list[Texts | BigInts | Floats] = [
        Texts(list(dict.fromkeys(run for _, run, _ in points))),
        BigInts(range(len(points))),
        Texts([project for project, _, _ in points]),
        Texts([run for _, run, _ in points]),
        BigInts([key for _, _, key in points]),
        *(BigInts(column) for column in zip(*lasts, strict=True)),
        Floats([comparable(last[2]) for last in lasts]),
        BigInts([len(some) for some in points.values()]),
        *(BigInts(column) for column in zip(*rows, strict=True)),
    ]
    return [column.data for column in columns]
