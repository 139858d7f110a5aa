"""All runs of a database as arrays in memory, for searches that read much of them: what is compared and ordered by.

They stand for exactly one snapshot, and are brought up to the one that asks by what has changed since
(`loopwright.track.revisions`), whichever process changed it. Runs that were removed for good, or more changes than it
is worth to read, make them be read anew.

The arrays are read on a thread, once searches have asked for them twice: the first page after a start, and what nobody
asks for again, cost what a search in the database does. They take a bounded part of the memory.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

import msgspec
import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from loopwright.core import LoopwrightError
from loopwright.store import Database
from loopwright.track.columns import floats_of
from loopwright.track.revisions import Moment, changed_since, moment
from loopwright.track.search.words import Entity

log = logging.getLogger("loopwright.track")

Array: TypeAlias = npt.NDArray[Any]
Name: TypeAlias = tuple[Entity, str]
"""What is held: a metric, param or tag by its key, or one of ATTRIBUTES."""
ATTRIBUTES = frozenset({"status", "kind", "name", "actor", "parent"})
_LEAST_RUNS = 5_000
"""Among fewer, the database finds them as fast."""
_ASKED_BEFORE = 2
_MOST_CHANGES = 5_000
_MOST_WORDS = 50_000
_WORD_BYTES = 150
_PATIENCE_S = 0.02
_TABLES = {Entity.PARAM: "run_params", Entity.TAG: "run_tags"}
_NONE = -1


class Numbers:
    """A metric's last values: `there` says which runs have one, NaN among them; `values` is NaN for the others."""

    def __init__(self, count: int) -> None:
        self.values: Array = np.full(count, np.nan)
        self.there: Array = np.zeros(count, bool)

    @property
    def size_bytes(self) -> int:
        """About what it takes."""
        return self.values.nbytes + self.there.nbytes

    def extend(self, places: Array, count: int) -> None:
        """Make room before places for runs that have none."""
        self.values = np.insert(self.values, places, np.nan)
        self.there = np.insert(self.there, places, False)

    def put(self, places: Array, given: list[Any]) -> None:
        """Set the values, as bits, of the runs at places."""
        self.values[places] = floats_of(np.array(given, np.int64))
        self.there[places] = True

    def clear(self, places: Array) -> None:
        """Take the values of runs away."""
        self.values[places], self.there[places] = np.nan, False


class Texts:
    """Texts of runs by their numbers among all different ones; -1 where a run has none."""

    def __init__(self, count: int) -> None:
        self.codes: Array = np.full(count, _NONE, np.int32)
        self.words: dict[str, int] = {}
        self._letters = 0

    @property
    def size_bytes(self) -> int:
        """About what it takes."""
        return self.codes.nbytes + self._letters + _WORD_BYTES * len(self.words)

    def extend(self, places: Array, count: int) -> None:
        """Make room before places for runs that have none."""
        self.codes = np.insert(self.codes, places, _NONE)

    def put(self, places: Array, given: list[Any]) -> None:
        """Set the texts of the runs at places."""
        words, before = self.words, len(self.words)
        self.codes[places] = [words.setdefault(text, len(words)) for text in given]
        self._letters += sum(map(len, islice(words, before, None)))

    def clear(self, places: Array) -> None:
        """Take the texts of runs away."""
        self.codes[places] = _NONE


class HeldRuns:
    """The arrays of one database, in at most so many bytes. Thread-safe: whoever looks at them holds `reading`."""

    def __init__(self, database: Database, limit_bytes: int) -> None:
        self._database, self._limit = database, limit_bytes
        self._lock = threading.Lock()
        self._asked: dict[Name, int] = {}
        self._unfit: set[Name] = set()
        self._loading: threading.Thread | None = None
        self._drop()

    def _drop(self) -> None:
        self.moment: Moment | None = None
        self.seqs: Array = np.zeros(0, np.int64)
        self.revisions: Array = np.zeros(0, np.int64)
        self.started: Array = np.zeros(0, np.int64)
        self.ids: Array = np.zeros(0, "S32")
        self.deleted: Array = np.zeros(0, bool)
        self.projects, self.experiments = Texts(0), Texts(0)
        self.named: dict[Name, Numbers | Texts] = {}

    @property
    def size_bytes(self) -> int:
        """About what the arrays take."""
        own = (self.seqs, self.revisions, self.started, self.ids, self.deleted)
        others = (self.projects, self.experiments, *self.named.values())
        return sum(array.nbytes for array in own) + sum(column.size_bytes for column in others)

    @contextmanager
    def reading(self, connection: Connection, names: Collection[Name]) -> Iterator[bool]:
        """Whether the arrays are there, with these names, and stand as this snapshot does; nobody else changes them in
        the block. Where they are not, they may be later.

        Args:
            connection: a snapshot in which nothing has been read: it must be later than what the arrays stand for.
        """
        if self._loading is not None or not self._lock.acquire(timeout=_PATIENCE_S):
            yield False
            return
        try:
            yield self._is_ready(connection, names)
        finally:
            self._lock.release()

    def load(self, names: Collection[Name]) -> None:
        """Read the arrays with these names, unless they would take too much.

        Raises:
            Unavailable: the database cannot be reached.
        """
        with self._lock, self._database.read() as connection:
            if self.moment is None or not self._caught_up(connection):
                self._load_runs(connection)
            for name in names:
                if name not in self.named and name not in self._unfit:
                    self._load_one(connection, name)
            self._shrink(names)

    def _is_ready(self, connection: Connection, names: Collection[Name]) -> bool:
        if self._unfit.intersection(names):
            return False
        ready = self.moment is not None and self._caught_up(connection) and self.named.keys() >= set(names)
        if not ready:
            self._ask(connection, names)
            return False
        for name in names:  # those that were asked for last go last
            self.named[name] = self.named.pop(name)
        return True

    def _ask(self, connection: Connection, names: Collection[Name]) -> None:
        """Count who asks, and have the arrays read once it is worth it."""
        wanted = [(Entity.ATTRIBUTE, "started_at"), *names]
        if len(self._asked) > 1_000:
            self._asked.clear()
        for name in wanted:
            self._asked[name] = self._asked.get(name, 0) + 1
        if any(self._asked[name] < _ASKED_BEFORE for name in wanted) or self._loading is not None:
            return
        if (connection.exec_driver_sql("SELECT max(seq) FROM runs").scalar() or 0) >= _LEAST_RUNS:
            self._loading = threading.Thread(
                target=self._load_apart, args=(tuple(names),), name="loopwright-held-runs", daemon=True
            )
            self._loading.start()

    def _load_apart(self, names: Collection[Name]) -> None:
        try:
            self.load(names)
        except LoopwrightError as error:
            log.info("searches go on without arrays in memory: %s", error)
        finally:
            self._loading = None

    def _shrink(self, names: Collection[Name]) -> None:
        """Let go of what was not asked for longest; of everything where the runs alone are too many."""
        for name in [name for name in self.named if name not in names]:
            if self.size_bytes <= self._limit:
                return
            del self.named[name]
        if self.size_bytes > self._limit:
            self._unfit.update(names or {(Entity.ATTRIBUTE, "started_at")})
            self._drop()

    def _caught_up(self, connection: Connection) -> bool:
        """Bring the arrays up to a snapshot; False where they would have to be read anew."""
        assert self.moment is not None
        now = moment(connection)
        if now.purges != self.moment.purges or now.runs < self.moment.runs:
            self._drop()
            return False
        if not now.sees_as(self.moment):
            changed = self._unseen(changed_since(connection, self.moment))
            if len(changed) > max(_MOST_CHANGES, len(self.seqs) // 4):
                self._drop()
                return False
            if changed:
                self._refresh(connection, changed)
        self.moment = now
        return True

    def _unseen(self, changed: dict[int, int]) -> dict[int, int]:
        """Those of the changes that do not stand in the arrays yet."""
        if not changed:
            return changed
        seqs = np.fromiter(changed, np.int64, len(changed))
        places = np.minimum(np.searchsorted(self.seqs, seqs), max(len(self.seqs) - 1, 0))
        if not len(self.seqs):
            return changed
        seen = (self.seqs[places] == seqs) & (self.revisions[places] == list(changed.values()))
        return {int(seq): changed[int(seq)] for seq in seqs[~seen]}

    def _refresh(self, connection: Connection, changed: dict[int, int]) -> None:
        rows = _Rows(connection, sorted(changed))
        numbers, ids, projects, experiments, started, deleted = rows.runs()
        seqs = np.array(numbers, np.int64)
        self._make_room(seqs)
        places = np.searchsorted(self.seqs, seqs)
        self.revisions[places] = [changed[number] for number in numbers]
        self._put_runs(places, ids, projects, experiments, started, deleted)
        for name, column in list(self.named.items()):
            column.clear(places)
            self._fill(rows, name, column)
            if isinstance(column, Texts) and len(column.words) > _MOST_WORDS:
                del self.named[name]
        if self.size_bytes > self._limit:
            self._shrink(())

    def _make_room(self, seqs: Array) -> None:
        """Add runs that are not there yet, each at its place."""
        fresh = seqs[~np.isin(seqs, self.seqs)]
        if not len(fresh):
            return
        places = np.searchsorted(self.seqs, fresh)
        for name in ("seqs", "revisions", "started", "ids", "deleted"):
            held: Array = getattr(self, name)
            setattr(self, name, np.insert(held, places, fresh if name == "seqs" else np.zeros(1, held.dtype)))
        for column in (self.projects, self.experiments, *self.named.values()):
            column.extend(places, len(fresh))

    def _load_runs(self, connection: Connection) -> None:
        self._drop()
        now = moment(connection)
        rows = _Rows(connection, None)
        numbers, ids, projects, experiments, started, deleted = rows.runs()
        count = len(numbers)
        self.seqs = np.array(numbers, np.int64)
        self.revisions, self.started = np.zeros(count, np.int64), np.zeros(count, np.int64)
        self.ids, self.deleted = np.zeros(count, "S32"), np.zeros(count, bool)
        self.projects, self.experiments = Texts(count), Texts(count)
        self._put_runs(np.arange(count), ids, projects, experiments, started, deleted)
        touched, revisions = rows.revisions()
        known = np.isin(touched, self.seqs)
        self.revisions[np.searchsorted(self.seqs, touched[known])] = np.array(revisions, np.int64)[known]
        self.moment = now

    def _put_runs(self, places: Array, ids: Any, projects: Any, experiments: Any, started: Any, deleted: Any) -> None:
        self.ids[places] = np.array(ids, "S32")
        self.started[places] = started
        self.deleted[places] = [at is not None for at in deleted]
        self.projects.put(places, projects)
        self.experiments.put(places, experiments)

    def _load_one(self, connection: Connection, name: Name) -> None:
        column = Numbers(len(self.seqs)) if name[0] is Entity.METRIC else Texts(len(self.seqs))
        self._fill(_Rows(connection, None), name, column)
        if isinstance(column, Texts) and len(column.words) > _MOST_WORDS:
            self._unfit.add(name)  # nearly every run has one of its own: it would take more than it gives
        else:
            self.named[name] = column

    def _fill(self, rows: _Rows, name: Name, column: Numbers | Texts) -> None:
        found, values = rows.named(name)
        column.put(np.searchsorted(self.seqs, found), values)


class _Rows(NamedTuple):
    """What the arrays are made of, of all runs or some, in the order of their numbers."""

    connection: Connection
    only: Sequence[int] | None

    def runs(self) -> list[list[Any]]:
        """Number, id, project, experiment, start and deletion."""
        return self._read("seq, id, project, experiment_id, started_at, deleted_at", "runs", "seq")

    def revisions(self) -> tuple[Array, list[int]]:
        """Numbers and revisions."""
        seqs, revisions = self._read("run_seq, revision", "run_changes", "run_seq")
        return np.array(seqs, np.int64), revisions

    def named(self, name: Name) -> tuple[Array, list[Any]]:
        """Numbers of the runs that have this, and their values: bits of a metric, or texts."""
        entity, key = name
        if entity is Entity.ATTRIBUTE:
            seqs, values = self._read(f"seq, {key}", "runs", "seq")
        elif entity is Entity.METRIC:
            seqs, values = self._read("run_seq, last_bits", "run_series", "run_seq", key)
        else:
            seqs, values = self._read("run_seq, value", _TABLES[entity], "run_seq", key)
        return np.array(seqs, np.int64), values

    def _read(self, columns: str, table: str, number: str, key: str | None = None) -> list[list[Any]]:
        """Columns as JSON arrays, which cost a third of what rows do. Names are our own, what is asked is bound."""
        is_sqlite = self.connection.dialect.name == "sqlite"
        mark, given, conditions = "?" if is_sqlite else "%s", list[Any](), list[str]()
        if key is not None:
            conditions.append(f"key_id = (SELECT id FROM run_keys WHERE key = {mark})")  # noqa: S608 - as below
            given.append(key)
        if self.only is not None:
            among = "IN (SELECT value FROM json_each(?))" if is_sqlite else "= ANY(%s)"
            conditions.append(f"{number} {among}")
            given.append(msgspec.json.encode(self.only).decode() if is_sqlite else list(self.only))
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        order = f" ORDER BY {number}" if table == "runs" else ""
        form = "json_group_array({})" if is_sqlite else "coalesce(array_to_json(array_agg({}))::text, '[]')"
        arrays = ", ".join(form.format(column) for column in columns.split(", "))
        query = f"SELECT {arrays} FROM (SELECT {columns} FROM {table}{where} {order}) AS found"  # noqa: S608 - our own names
        row = self.connection.exec_driver_sql(query, tuple(given)).one()
        return [_LIST.decode(text) for text in row]


_LIST = msgspec.json.Decoder(list[Any])
_of: WeakKeyDictionary[Database, HeldRuns] = WeakKeyDictionary()
_making = threading.Lock()


def held_runs_of(database: Database, limit_bytes: int) -> HeldRuns:
    """Those of a database in this process; the first who asks says how much they may take."""
    with _making:
        found = _of.get(database)
        if found is None:
            found = _of[database] = HeldRuns(database, limit_bytes)
        return found
