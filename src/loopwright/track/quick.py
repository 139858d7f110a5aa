"""Small groups of points on PostgreSQL in one round trip, for a caller that must not wait: an event loop.

One statement holds the runs, checks that each is there, adds series or moves their last values, and adds the points; it
does everything or nothing. A point that comes alone, as most do, has a statement of its own, which costs the database
half as much: to begin a plan takes longer than what it does. Runs that are not there, tails that are long enough to be
packed, params, tags and large calls are left to `loopwright.track.batches`.
"""

from __future__ import annotations

import logging
import struct
import time
from collections.abc import Mapping, Sequence
from typing import cast

from loopwright.store import Database
from loopwright.track.arrays import BigInts, Floats, Texts
from loopwright.track.batches import Batch, run_id_of
from loopwright.track.bulk import StoredPoint, comparable
from loopwright.track.compaction import TAIL_LIMIT
from loopwright.track.keys import known_keys

log = logging.getLogger("loopwright.track")

_Place = tuple[str, str, int]
"""A project, a run's id, a key's number."""
_PAUSE_S = 5.0
_NUMBER = struct.Struct(">q")
_INTEGER, _FLOAT = _NUMBER.pack, struct.Struct(">d").pack
_LATER = "(excluded.last_step, excluded.last_at, excluded.last_bits) > (s.last_step, s.last_at, s.last_bits)"
_MOVE = f"""
  ON CONFLICT (run_seq, key_id) DO UPDATE SET tail_count = s.tail_count + excluded.tail_count,
    last_step = CASE WHEN {_LATER} THEN excluded.last_step ELSE s.last_step END,
    last_at = CASE WHEN {_LATER} THEN excluded.last_at ELSE s.last_at END,
    last_bits = CASE WHEN {_LATER} THEN excluded.last_bits ELSE s.last_bits END,
    last_value = CASE WHEN {_LATER} THEN excluded.last_value ELSE s.last_value END"""
# Whether its commit waits for the disk is said within the statement: whoever has the connection next inherits nothing.
# The lock is taken, and waited for, before anything is written, in the order of the runs as everywhere.
_STATEMENT = f"""
WITH held AS MATERIALIZED (
  SELECT id, project, seq FROM runs WHERE id = ANY ($1::text[]) AND deleted_at IS NULL ORDER BY seq FOR NO KEY UPDATE
), given AS MATERIALIZED (
  SELECT h.seq, p.* FROM unnest($2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[],
    $8::bigint[], $9::float8[], $10::bigint[])
    AS p (place, project, run, key_id, step, at_us, bits, value, many)
  JOIN held AS h ON h.id = p.run AND h.project = p.project
), put AS (
  INSERT INTO run_series AS s (run_seq, key_id, last_step, last_at, last_bits, last_value, found_value, tail_count)
  SELECT seq, key_id, step, at_us, bits, value, value, many FROM given
  WHERE (SELECT count(*) FROM given) = cardinality($2) ORDER BY seq, key_id{_MOVE}
  RETURNING s.id, s.run_seq, s.key_id, s.tail_count
), placed AS MATERIALIZED (
  SELECT put.id, g.place, put.tail_count FROM put JOIN given AS g ON g.seq = put.run_seq AND g.key_id = put.key_id
), added AS (
  INSERT INTO run_points (series_id, step, at, bits)
  SELECT placed.id, p.step, p.at_us, p.bits
  FROM unnest($11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[]) AS p (place, step, at_us, bits)
  JOIN placed ON placed.place = p.place ON CONFLICT DO NOTHING
), touched AS (
  INSERT INTO run_changes (run_seq, revision) SELECT seq, txid_current() FROM held ORDER BY seq
  ON CONFLICT (run_seq) DO UPDATE SET revision = excluded.revision
)
SELECT place, tail_count, level FROM placed CROSS JOIN (
  SELECT set_config('synchronous_commit', coalesce($15::text, current_setting('synchronous_commit')), true) AS level
) AS waiting
"""  # noqa: S608 - made of constants
_ONE_POINT = f"""
WITH held AS MATERIALIZED (
  SELECT seq FROM runs WHERE id = $1::text AND project = $2::text AND deleted_at IS NULL FOR NO KEY UPDATE
), put AS (
  INSERT INTO run_series AS s (run_seq, key_id, last_step, last_at, last_bits, last_value, found_value, tail_count)
  SELECT seq, $3::bigint, $4::bigint, $5::bigint, $6::bigint, $7::float8, $7, 1 FROM held{_MOVE}
  RETURNING s.id, s.tail_count
), added AS (
  INSERT INTO run_points (series_id, step, at, bits) SELECT id, $4, $5, $6 FROM put ON CONFLICT DO NOTHING
), touched AS (
  INSERT INTO run_changes (run_seq, revision) SELECT seq, txid_current() FROM held
  ON CONFLICT (run_seq) DO UPDATE SET revision = excluded.revision
)
SELECT 0::bigint AS place, tail_count,
  CASE WHEN $8::text IS NULL THEN current_setting('synchronous_commit')
    ELSE set_config('synchronous_commit', $8, true) END AS level
FROM put
"""  # noqa: S608 - made of constants
_GROUP, _SINGLE = 0, 1


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
        self._link = database.link([_STATEMENT, _ONE_POINT])
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

    def takes(self, batch: Batch) -> bool:
        """Whether a batch is of the kind that this is for: a few points, and nothing else."""
        return (
            not (batch.params or batch.tags or "\0" in batch.run)
            and isinstance(batch.points, dict)
            and all(isinstance(some, list) for some in batch.points.values())
        )

    def begin(self, batches: Sequence[Batch]) -> bool:
        """Send a group of batches that it takes; False, and nothing is done, where a key is not known yet, a tail has
        to be packed, or the connection is gone."""
        points = self._points(batches)
        if points is None:
            return False
        try:
            self._send(points)
        except Exception as error:  # noqa: BLE001 - the drivers' many kinds; the other way tells what is wrong
            self._lose("the quick way to the database is closed", error)
            return False
        self._places = list(points)
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

    def _send(self, points: dict[_Place, list[StoredPoint]]) -> None:
        if len(points) == 1:
            [(place, some)] = points.items()
            if len(some) == 1:
                self._link.send([*_one(place, some[0]), self._level()], _SINGLE)
                return
        self._link.send([*_values(points), self._level()], _GROUP)

    def _level(self) -> bytes | None:
        """What the commit waits for: PostgreSQL's `synchronous_commit`; None for what it is set to."""
        now = time.monotonic()
        if now < self._synced_at + self._sync_every_s:
            return b"off"
        self._synced_at = now
        return None

    def _points(self, batches: Sequence[Batch]) -> dict[_Place, list[StoredPoint]] | None:
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
        return found if found and not crowded else None


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
