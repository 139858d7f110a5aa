"""A few single points on SQLite in as few statements as there can be, for a caller that must not wait: an event loop.

What takes `loopwright.track.batches` three times as long is to be ready for everything. Here a run has the metric
already, and its tail is not long enough to be packed; whatever else there is, is left to the other way. Both write the
same rows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TypeAlias, cast

from loopwright.store import Database
from loopwright.track.batches import Batch, run_id_of
from loopwright.track.bulk import StoredPoint, comparable
from loopwright.track.compaction import TAIL_LIMIT
from loopwright.track.keys import known_keys
from loopwright.track.revisions import TOUCH_AGAIN

MOST_POINTS = 32
_LATER = "(:step, :at, :bits) > (last_step, last_at, last_bits)"
_MOVE = f"""
UPDATE run_series SET tail_count = tail_count + 1,
  last_step = CASE WHEN {_LATER} THEN :step ELSE last_step END,
  last_at = CASE WHEN {_LATER} THEN :at ELSE last_at END,
  last_bits = CASE WHEN {_LATER} THEN :bits ELSE last_bits END,
  last_value = CASE WHEN {_LATER} THEN :value ELSE last_value END
WHERE run_seq = (SELECT seq FROM runs WHERE id = :run AND +project = :project AND deleted_at IS NULL) AND key_id = :key
  AND tail_count < {TAIL_LIMIT - 1}
RETURNING id, run_seq
"""  # noqa: S608 - made of constants
_ADD = "INSERT OR IGNORE INTO run_points (series_id, step, at, bits) VALUES (?, ?, ?, ?)"
_NAMES = ("step", "at", "bits", "value", "run", "project", "key")
_Row: TypeAlias = tuple[int, int, int, float | None, str, str, int]


def store_singles(database: Database, batches: Sequence[Batch]) -> bool:
    """Store batches that have nothing but a few points, all of them or nothing; False where it was nothing.

    Raises:
        sqlite3.Error: the database does not take it.
    """
    rows = _rows(database, batches)
    return bool(rows) and database.run_at_once(partial(_write, rows))


def _rows(database: Database, batches: Sequence[Batch]) -> list[_Row]:
    """The points with their places; none where one of the batches is of another kind, or a key was never met."""
    rows: list[_Row] = []
    for item in batches:
        if item.params or item.tags or item.size > MOST_POINTS or type(item.points) is not dict:
            return []
        keys = known_keys(database, item.points)
        if keys is None or len(rows) + item.size > MOST_POINTS:
            return []
        for key, some in cast(Mapping[str, list[StoredPoint]], item.points).items():
            if type(some) is not list:
                return []
            run = run_id_of(item)
            rows += [(*point, comparable(point[2]), run, item.project, keys[key]) for point in some]
    return rows


def _write(rows: Sequence[_Row], cursor: sqlite3.Cursor) -> bool:
    touched: set[int] = set()
    for row in rows:
        found = cursor.execute(_MOVE, dict(zip(_NAMES, row, strict=True))).fetchall()
        if not found:
            return False
        [(series, seq)] = found
        cursor.execute(_ADD, (series, *row[:3]))
        touched.add(seq)
    return all(cursor.execute(TOUCH_AGAIN, (seq,)).rowcount == 1 for seq in touched)
