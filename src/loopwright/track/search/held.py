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
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary, ref

import numpy as np
from sqlalchemy import Connection

from loopwright.core import LoopwrightError
from loopwright.store import Database
from loopwright.track.reading import experiment_names
from loopwright.track.revisions import Moment, changed_since, moment
from loopwright.track.search.arrays import Array, Name, Numbers, Texts
from loopwright.track.search.loading import RunColumns, read_named, read_revisions, read_runs, read_runs_after
from loopwright.track.search.words import Entity

log = logging.getLogger("loopwright.track")

_LEAST_RUNS = 1_000
"""Among fewer, the database finds them as fast."""
_ASKED_BEFORE = 2
_MOST_CHANGES = 5_000
_MOST_WORDS = 50_000
_RUN_BYTES = 80
_RUNS_AT_ONCE = 10_000
"""More would keep the interpreter from other threads for longer than some milliseconds."""
_GRACE_S = 0.1
_PATIENCE_S = 0.02
_ALL: Name = (Entity.ATTRIBUTE, "")
"""What stands for the runs themselves."""


class HeldRuns:
    """The arrays of one database, in at most so many bytes. Thread-safe: whoever looks at them holds `reading`."""

    def __init__(self, database: Database, limit_bytes: int) -> None:
        self._database, self._limit = ref(database), limit_bytes  # which is the key under which this is found
        self._lock = threading.Lock()
        self._asked: dict[Name, int] = {}
        self._unfit: set[Name] = set()
        self._loading: threading.Thread | None = None
        self._ended = threading.Event()
        database.before_close(self._end)
        self._drop()

    def _drop(self) -> None:
        self.moment: Moment | None = None
        self.is_quiet = False
        self.seqs: Array = np.zeros(0, np.int64)
        self.revisions: Array = np.zeros(0, np.int64)
        self.started: Array = np.zeros(0, np.int64)
        self.ids: Array = np.zeros(0, "S32")
        self.deleted: Array = np.zeros(0, bool)
        self.projects, self.experiments = Texts(0), Texts(0)
        self._titles: dict[str, str] = {}  # of experiments, by their ids
        self.named: dict[Name, Numbers | Texts] = {}
        self._behind: dict[Name, set[int]] = {}  # runs that have changed since somebody asked for a name

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

    @contextmanager
    def glancing(self, connection: Connection, names: Collection[Name]) -> Iterator[bool]:
        """The same without a snapshot, by one statement: whether the arrays stand as the database does at this moment,
        and nothing is behind. Asked only while nobody seems to write, as it is lost time where somebody does.

        Args:
            connection: as `Database.glance` gives it.
        """
        if not self.is_quiet or self._loading is not None or not self._lock.acquire(timeout=_PATIENCE_S):
            yield False
            return
        try:
            yield self._stands(connection, names)
        finally:
            self._lock.release()

    def titles(self, connection: Connection, ids: Collection[str]) -> dict[str, str]:
        """The names of experiments by their ids, in this snapshot, for which the arrays are ready."""
        missing = set(ids) - self._titles.keys()
        if missing:
            self._titles.update(experiment_names(connection, missing))
        return self._titles

    def load(self, names: Collection[Name]) -> None:
        """Read the arrays with these names, unless they would take too much.

        Raises:
            Unavailable: the database cannot be reached.
        """
        database = self._database()
        if database is None:  # nobody searches it any more
            return
        with self._lock, database.read() as connection:
            if self.moment is None or not self._caught_up(connection):
                self._load_runs(connection)
            for name in names:
                if self.moment is not None and name not in self.named and name not in self._unfit:
                    self._load_one(connection, name)
            self._shrink(names)

    def _stands(self, connection: Connection, names: Collection[Name]) -> bool:
        before = self.moment
        if before is None or not self.named.keys() >= set(names) or self._behind.keys() & set(names):
            return False
        now = moment(connection)
        self.is_quiet = now.sees_as(before) and now.names == before.names
        if self.is_quiet:
            for name in names:
                self.named[name] = self.named.pop(name)  # those that were asked for last go last
        return self.is_quiet

    def _is_ready(self, connection: Connection, names: Collection[Name]) -> bool:
        if self._unfit.intersection((_ALL, *names)):
            return False
        if self.moment is None or not self._caught_up(connection) or not self.named.keys() >= set(names):
            self._ask(connection, names)
            return False
        for name in names:
            self.named[name] = self.named.pop(name)  # those that were asked for last go last
            self._catch_up_one(connection, name)
        self._shrink(names)
        return self.named.keys() >= set(names)

    def _ask(self, connection: Connection, names: Collection[Name]) -> None:
        """Count who asks, and have the arrays read once it is worth it."""
        wanted = (_ALL, *names)
        if len(self._asked) > 1_000:
            self._asked.clear()
        for name in wanted:
            self._asked[name] = self._asked.get(name, 0) + 1
        if self._loading is not None or any(self._asked[name] < _ASKED_BEFORE for name in wanted):
            return
        most = connection.exec_driver_sql("SELECT max(seq) FROM runs").scalar() or 0
        if most * _RUN_BYTES > self._limit:
            self._unfit.add(_ALL)
        elif most >= _LEAST_RUNS:
            self._loading = threading.Thread(
                target=self._load_apart, args=(tuple(names),), name="loopwright-held-runs", daemon=True
            )
            self._loading.start()

    def _load_apart(self, names: Collection[Name]) -> None:
        try:
            if not self._ended.wait(_GRACE_S):  # the search that was the second to ask is answered meanwhile
                self.load(names)
        except LoopwrightError as error:
            log.info("searches go on without arrays in memory: %s", error)
        finally:
            self._loading = None

    def _end(self) -> None:
        """Wait for the thread; the arrays can be read again afterwards."""
        self._ended.set()
        thread = self._loading
        if thread is not None:
            thread.join()
        self._ended.clear()

    def _shrink(self, names: Collection[Name]) -> None:
        """Let go of what was not asked for longest; of everything where the runs with these names are too many."""
        if self.size_bytes <= self._limit:
            return
        for name in [name for name in self.named if name not in names]:
            del self.named[name]
            if self.size_bytes <= self._limit:
                return
        self._unfit.update(names or {_ALL})
        self._drop()

    def _caught_up(self, connection: Connection) -> bool:
        """Bring the runs up to a snapshot, and note what is behind; False where they would have to be read anew."""
        assert self.moment is not None
        now = moment(connection)
        if now.purges != self.moment.purges or now.runs < self.moment.runs:
            self._drop()
            return False
        self.is_quiet = now.sees_as(self.moment)
        if not self.is_quiet:
            changed = self._unseen(changed_since(connection, self.moment, now))
            if len(changed) > max(_MOST_CHANGES, len(self.seqs) // 4):
                self._drop()
                return False
            if changed:
                self._refresh(connection, changed)
        if now.names != self.moment.names:
            self._titles = {}
        self.moment = now
        return True

    def _unseen(self, changed: dict[int, int]) -> dict[int, int]:
        """Those of the changes that do not stand in the arrays yet."""
        if not changed or not len(self.seqs):
            return changed
        seqs = np.fromiter(changed, np.int64, len(changed))
        places = np.minimum(np.searchsorted(self.seqs, seqs), len(self.seqs) - 1)
        seen = (self.seqs[places] == seqs) & (self.revisions[places] == list(changed.values()))
        return {seq: changed[seq] for seq in seqs[~seen].tolist()}

    def _refresh(self, connection: Connection, changed: dict[int, int]) -> None:
        found = read_runs(connection, sorted(changed))
        seqs = np.array(found.seqs, np.int64)
        self._make_room(seqs)
        places = np.searchsorted(self.seqs, seqs)
        self.revisions[places] = [changed[seq] for seq in found.seqs]
        self._put_runs(places, found)
        for name in list(self.named):
            behind = self._behind.setdefault(name, set())
            behind.update(found.seqs)
            if len(behind) > _MOST_CHANGES:  # nobody has asked for it for long
                del self.named[name], self._behind[name]

    def _catch_up_one(self, connection: Connection, name: Name) -> None:
        behind, column = self._behind.pop(name, None), self.named[name]
        if behind:
            seqs = sorted(behind)
            column.clear(np.searchsorted(self.seqs, seqs))
            found, values = read_named(connection, name, seqs)
            column.put(np.searchsorted(self.seqs, found), values)
            self._judge(name, column)

    def _judge(self, name: Name, column: Numbers | Texts) -> None:
        """Let go of texts where nearly every run has one of its own: they would take more than they give."""
        if isinstance(column, Texts) and len(column.words) > _MOST_WORDS:
            self._unfit.add(name)
            del self.named[name]

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
            column.extend(places)

    def _load_runs(self, connection: Connection) -> None:
        self._drop()
        now, last = moment(connection), 0
        while not self._ended.is_set() and (found := read_runs_after(connection, last, _RUNS_AT_ONCE)).seqs:
            self._make_room(np.array(found.seqs, np.int64))
            last = found.seqs[-1]
            self._put_runs(np.arange(len(self.seqs) - len(found.seqs), len(self.seqs)), found)
        if self._ended.is_set():
            return  # not whole, and of no moment
        touched, revisions = read_revisions(connection)
        known = np.isin(touched, self.seqs)
        self.revisions[np.searchsorted(self.seqs, touched[known])] = np.array(revisions, np.int64)[known]
        self.moment = now

    def _put_runs(self, places: Array, found: RunColumns) -> None:
        self.ids[places] = np.array(found.ids, "S32")
        self.started[places] = found.started
        self.deleted[places] = [at is not None for at in found.deleted]
        self.projects.put(places, found.projects)
        self.experiments.put(places, found.experiments)

    def _load_one(self, connection: Connection, name: Name) -> None:
        column = Numbers(len(self.seqs)) if name[0] is Entity.METRIC else Texts(len(self.seqs))
        found, values = read_named(connection, name)
        column.put(np.searchsorted(self.seqs, found), values)
        self.named[name] = column
        self._judge(name, column)


_of: WeakKeyDictionary[Database, HeldRuns] = WeakKeyDictionary()
_making = threading.Lock()


def held_runs_of(database: Database, limit_bytes: int) -> HeldRuns:
    """Those of a database in this process; the first who asks says how much they may take."""
    with _making:
        found = _of.get(database)
        if found is None:
            found = _of[database] = HeldRuns(database, limit_bytes)
        return found
