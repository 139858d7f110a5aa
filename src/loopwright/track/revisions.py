"""The revision of a run: a number that no other state of it ever had, in `run_changes`.

Every transaction that changes what a run's record shows calls `touch`, before it writes anything else. What was made
from a record that was read in a snapshot holds for as long as the run has the revision that stood in that snapshot,
whoever writes (`loopwright.track.rendering`); and who knows all runs as they stood in one snapshot finds what has
changed since by the revisions that are later (`loopwright.track.search.held`).

On SQLite, whose writers are alone, the next revision is one more than the highest: a counter of its own would be one
more page in every commit. Where runs are removed, the highest is noted, so that no number comes twice. On PostgreSQL a
revision is the number of the transaction, so that writers of different runs do not wait for each other: later than a
snapshot are those from its oldest unfinished transaction on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, Select

RUNS, PURGES, NAMES = "runs", "purges", "names"
"""What stands in `run_turns`: on SQLite, a revision above which the next one is; how often runs were removed, and
experiments renamed."""

_COUNT = (
    "INSERT INTO run_turns (name, number) VALUES ('{name}', 1) "
    "ON CONFLICT (name) DO UPDATE SET number = run_turns.number + 1"
)
_TOUCH = {
    "sqlite": "INSERT INTO run_changes (run_seq, revision) VALUES (?, ?) "
    "ON CONFLICT (run_seq) DO UPDATE SET revision = excluded.revision",
    # The run is held first, as everywhere: else two writers of it could wait for each other.
    "postgresql": "WITH held AS MATERIALIZED "
    "(SELECT seq FROM runs WHERE seq = ANY(%s) ORDER BY seq FOR NO KEY UPDATE) "
    "INSERT INTO run_changes (run_seq, revision) SELECT seq, txid_current() FROM held ORDER BY seq "
    "ON CONFLICT (run_seq) DO UPDATE SET revision = excluded.revision",
}
_HIGHEST = (
    "(SELECT max(coalesce((SELECT max(revision) FROM run_changes), 0), "
    "coalesce((SELECT number FROM run_turns WHERE name = 'runs'), 0)))"
)
_NEXT = f"SELECT 1 + {_HIGHEST}"
TOUCH_AGAIN = f"UPDATE run_changes SET revision = 1 + {_HIGHEST} WHERE run_seq = ?"  # noqa: S608 - made of constants
"""A new revision for a run that has one, on SQLite; it changes no row where the run has none."""
_NOTE_HIGHEST = (
    f"INSERT INTO run_turns (name, number) VALUES ('runs', {_HIGHEST}) "  # noqa: S608 - made of constants
    "ON CONFLICT (name) DO UPDATE SET number = excluded.number"
)
_SINCE = {
    "sqlite": f"SELECT name, number FROM run_turns WHERE name <> 'runs' UNION ALL SELECT 'runs', {_HIGHEST}",  # noqa: S608 - made of constants
    "postgresql": "SELECT name, number FROM run_turns "
    "UNION ALL SELECT 'runs', txid_snapshot_xmin(txid_current_snapshot()) "
    "UNION ALL SELECT 'end', txid_snapshot_xmax(txid_current_snapshot())",
}
_CHANGED = {
    "sqlite": "SELECT run_seq, revision FROM run_changes WHERE revision > ? AND revision <= ?",
    # The upper bound leaves out revisions that another server's transactions gave before the database moved here.
    "postgresql": "SELECT run_seq, revision FROM run_changes WHERE revision >= %s AND revision < %s",
}
_REVISIONS = {
    "sqlite": "SELECT run_seq, revision FROM run_changes WHERE run_seq IN (SELECT value FROM json_each(?))",
    "postgresql": "SELECT run_seq, revision FROM run_changes WHERE run_seq = ANY(%s)",
}


class Moment(NamedTuple):
    """How far a snapshot sees: it has every change of runs up to `runs`, and none from `end` on; how many times
    runs were removed; and how many times an experiment got another name."""

    runs: int
    end: int
    purges: int
    names: int

    def sees_as(self, before: Moment) -> bool:
        """Whether nothing can have changed since a moment before."""
        return self.purges == before.purges and before.runs == before.end == self.end


def touch(tx: Connection, seqs: Iterable[int]) -> None:
    """Give runs a new revision, and hold them, in the order of their numbers, to the end of the transaction."""
    numbers = sorted(set(seqs))
    if not numbers:
        return
    if tx.dialect.name == "sqlite":
        cursor = tx.connection.cursor()
        [revision] = cursor.execute(_NEXT).fetchone()
        cursor.executemany(_TOUCH["sqlite"], [(seq, revision) for seq in numbers])
    else:
        tx.exec_driver_sql(_TOUCH["postgresql"], (numbers,))


def touch_found(tx: Connection, query: Select[Any]) -> None:
    """Touch the runs whose numbers a query gives."""
    touch(tx, tx.execute(query).scalars().all())


def note_purge(tx: Connection) -> None:
    """Tell that runs are removed; call it before they are."""
    if tx.dialect.name == "sqlite":
        tx.exec_driver_sql(_NOTE_HIGHEST)
    tx.exec_driver_sql(_COUNT.format(name=PURGES))


def note_name(tx: Connection) -> None:
    """Tell that an experiment gets another name."""
    tx.exec_driver_sql(_COUNT.format(name=NAMES))


def moment(connection: Connection) -> Moment:
    """How far this snapshot sees."""
    found: dict[str, int] = dict(connection.exec_driver_sql(_SINCE[connection.dialect.name]).fetchall())
    runs = found.get(RUNS, 0)
    return Moment(runs, found.get("end", runs), found.get(PURGES, 0), found.get(NAMES, 0))


def changed_since(connection: Connection, before: Moment, now: Moment) -> dict[int, int]:
    """The revisions of the runs that have changed between two moments, and perhaps of some that have not."""
    rows = connection.exec_driver_sql(_CHANGED[connection.dialect.name], (before.runs, now.end)).fetchall()
    return dict(rows)


def revisions_of(connection: Connection, seqs: Sequence[int]) -> dict[int, int]:
    """The revisions of runs; one that nobody has touched is left out."""
    is_sqlite = connection.dialect.name == "sqlite"
    given: Any = msgspec.json.encode(list(seqs)).decode() if is_sqlite else list(seqs)
    rows = connection.exec_driver_sql(_REVISIONS[connection.dialect.name], (given,)).fetchall()
    return dict(rows)
