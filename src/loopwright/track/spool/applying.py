"""A batch of a spool, applied to a workspace: all of it in one transaction, once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import msgspec
from sqlalchemy import Connection, select, update

from loopwright.core import Conflict, Invalid, LoopwrightError, NotFound, Scope, check_path, is_id, parse_ref
from loopwright.store import Stores
from loopwright.track import batches
from loopwright.track.artifacts import store_source, write_artifacts
from loopwright.track.columns import Columns, joined
from loopwright.track.deliveries import Delivery, deliver, delivered, forget
from loopwright.track.keys import find_keys, intern_keys
from loopwright.track.lifecycle import NewRun, end_run, reopen_run, start_run, tell_end
from loopwright.track.model import RunStatus
from loopwright.track.reading import load_runs, the_run
from loopwright.track.spool.notes import (
    FileKept,
    InputsRead,
    Note,
    Outcome,
    Points,
    Refusal,
    RunBegan,
    RunEnded,
    SpoolBatch,
    TextsSet,
)
from loopwright.track.tables import runs
from loopwright.track.values import check_key, from_micros
from loopwright.track.writing import write_inputs

_MAX_POSITION = 1 << 62


def apply_batch(stores: Stores, scope: Scope, batch: SpoolBatch) -> Outcome:
    """Apply a batch if it begins where its segment was applied to; say in any case how far that is.

    What cannot be kept for good (a param that has another value, a run of another project) is refused and told; the
    rest is kept.

    Raises:
        Invalid: the batch is malformed.
        Unavailable: the database cannot take it now; nothing was kept.
    """
    _check(batch)
    _intern(stores, {name for item in batch.notes for name in _names_in(item)} | {item.key for item in batch.points})
    with stores.db.begin() as tx:
        stores.db.lock(tx, f"spool:{batch.spool}")
        position = delivered(tx, batch.spool).get(batch.segment, 0)
        if position != batch.start or batch.end == batch.start:
            return Outcome(position)
        refused = list(_Application(stores, scope, tx).apply(batch))
        if not batch.start:  # segments come in their order, and this is the next one
            forget(tx, batch.spool, before=batch.segment)
    return Outcome(batch.end, refused)


def keep_file(stores: Stores, scope: Scope, run: str, path: str, file: Path) -> None:
    """Keep a file with a run, under a path of the run; what is at the same path is replaced.

    Raises:
        NotFound: there is no such run.
        Invalid: the path is not safe.
    """
    check_path(path)
    with stores.db.read() as connection:
        seq = the_run(connection, scope.project, run).seq
    kept = store_source(stores.objects, file, path, stores.clock.now())
    with stores.db.begin() as tx:
        write_artifacts(stores.db, tx, seq, kept)


class _Application:
    """One batch in one open transaction."""

    def __init__(self, stores: Stores, scope: Scope, tx: Connection) -> None:
        self._stores, self._scope, self._tx = stores, scope, tx

    def apply(self, batch: SpoolBatch) -> Iterator[Refusal]:
        """Runs begin, take texts and points, note inputs, end; what is refused."""
        for note in batch.notes:
            if isinstance(note, RunBegan):
                yield from self._judged(note.run, "the start", partial(self._begin, note))
        texts = [note for note in batch.notes if isinstance(note, RunBegan | TextsSet) and (note.params or note.tags)]
        yield from self._set_texts(texts)
        yield from self._add_points(batch)
        for note in batch.notes:
            if isinstance(note, InputsRead):
                yield from self._judged(note.run, "an input", partial(self._note_inputs, note))
            elif isinstance(note, RunEnded):
                yield from self._judged(note.run, "the end", partial(self._end, note))

    def _judged(self, run: str, what: str, change: Callable[[], None]) -> Iterator[Refusal]:
        """Make a change that may be refused without harm to the others."""
        try:
            with self._tx.begin_nested():
                change()
        except (Invalid, NotFound, Conflict) as error:
            yield Refusal(run, what, str(error))

    def _begin(self, note: RunBegan) -> None:
        row = self._tx.execute(select(runs).where(runs.c.id == note.run)).one_or_none()
        if row is not None:
            if row.project != self._scope.project:
                raise Conflict(f"the run id {note.run} is taken", next_step="start a run without an id")
            if note.resume and row.status != RunStatus.RUNNING:
                reopen_run(self._tx, row)
                before = {"status_before": row.status}
                self._stores.events.append(self._tx, "run.resumed", f"run:{row.id}", self._scope, before)
            return
        known = note.parent if self._has_run(note.parent) else ""
        wanted = NewRun(
            note.experiment, note.name, {}, {}, known, note.run, note.kind, started_at=from_micros(note.at_us)
        )
        start_run(self._stores, self._scope, self._tx, wanted)
        if note.parent != known:  # it is on its way, in the spool of another process
            self._tx.execute(update(runs).where(runs.c.id == note.run).values(parent=note.parent))

    def _has_run(self, run: str) -> bool:
        mine = (runs.c.id == run) & (runs.c.project == self._scope.project) & runs.c.deleted_at.is_(None)
        return bool(run) and self._tx.execute(select(runs.c.seq).where(mine)).first() is not None

    def _set_texts(self, notes: list[RunBegan | TextsSet]) -> Iterator[Refusal]:
        """Params and tags, each note judged by itself."""
        wanted = []
        for note in notes:
            try:
                batches.check_texts(note.params, note.tags)
            except Invalid as error:
                yield Refusal(note.run, "params or tags", str(error))
            else:
                wanted.append(batches.Batch(self._scope.project, note.run, {}, note.params, note.tags))
        outcomes = batches.write_batches(self._stores.db, self._tx, wanted) if wanted else []
        for item, reason in zip(wanted, outcomes, strict=True):
            if reason is not None:
                yield Refusal(item.run, "params or tags", str(reason))

    def _add_points(self, batch: SpoolBatch) -> Iterator[Refusal]:
        """The points, and with them the position."""
        points = _by_run(batch.points)
        delivery = Delivery(batch.spool, batch.segment, batch.start, batch.end, points)
        receipt = deliver(self._stores.db, self._tx, self._scope.project, delivery)
        for run, reason in receipt.refused.items():
            yield Refusal(run, f"{sum(map(len, points[run].values())):,} points", str(reason))

    def _note_inputs(self, note: InputsRead) -> None:
        inputs = [msgspec.structs.replace(item, ref=str(parse_ref(item.ref))) for item in note.inputs]
        row = the_run(self._tx, self._scope.project, note.run)
        write_inputs(self._stores.db, self._tx, row.seq, inputs)
        for item in inputs:
            self._stores.lineage.node(self._tx, item.ref, digest=item.digest, project=self._scope.project)
            self._stores.lineage.edge(self._tx, item.ref, f"run:{row.id}", "input", self._scope.project)

    def _end(self, note: RunEnded) -> None:
        row = the_run(self._tx, self._scope.project, note.run)
        if note.status is RunStatus.RUNNING:
            raise Invalid("a run cannot end as 'running'")
        if row.status != RunStatus.RUNNING and note.status is RunStatus.KILLED:
            return  # it ended by itself, before somebody found its process gone
        if end_run(self._tx, row, note.status, note.error[:2000], from_micros(note.at_us)):
            ended = load_runs(self._tx, [the_run(self._tx, self._scope.project, note.run)])[0]
            tell_end(self._stores, self._scope, self._tx, ended)


def _check(batch: SpoolBatch) -> None:
    in_order = 0 <= batch.start <= batch.end < _MAX_POSITION and 0 <= batch.segment < _MAX_POSITION
    if not is_id(batch.spool) or not in_order:
        raise Invalid(f"bytes {batch.start} to {batch.end} of segment {batch.segment} are no piece of a spool")
    for item in batch.points:
        check_key("metric", item.key)
        try:
            item.columns()
        except ValueError as error:
            raise Invalid(f"the points of metric {item.key!r} are no columns: {error}") from None
    for note in batch.notes:
        if isinstance(note, RunBegan) and not (is_id(note.run) and (not note.parent or is_id(note.parent))):
            raise Invalid(f"{note.run[:60]!r} or {note.parent[:60]!r} is not a run id")
        if isinstance(note, RunBegan | RunEnded):
            _check_time(note.at_us)


def _check_time(at_us: int) -> None:
    try:
        from_micros(at_us)
    except OverflowError:
        raise Invalid(f"{at_us} µs is no time") from None


def _intern(stores: Stores, names: set[str]) -> None:
    """Give keys their numbers in a transaction of their own: what is remembered of them must not be rolled back."""
    if not names:
        return
    with stores.db.read() as connection:
        missing = names - find_keys(stores.db, connection, names).keys()
    good = {name for name in missing if _is_key(name)}
    if good:
        with stores.db.begin() as tx:
            intern_keys(stores.db, tx, good)


def _is_key(name: str) -> bool:
    try:
        check_key("key", name)
    except LoopwrightError:
        return False
    return True


def _names_in(note: Note) -> Iterator[str]:
    if isinstance(note, RunBegan | TextsSet):
        yield from (*note.params, *note.tags)


def _by_run(points: list[Points]) -> dict[str, dict[str, Columns]]:
    """Columns by run and key; a key may come twice, where a run ended and went on."""
    found: dict[str, dict[str, list[Columns]]] = {}
    for item in points:
        found.setdefault(item.run, {}).setdefault(item.key, []).append(Columns(*item.columns()))
    return {run: {key: joined(parts) for key, parts in keys.items()} for run, keys in found.items()}


class LocalTarget:
    """A workspace on this machine as the receiver of batches."""

    def __init__(self, stores: Stores, scope: Scope, close: Callable[[], None]) -> None:
        self._stores, self._scope, self._close = stores, scope, close

    def deliver(self, batch: SpoolBatch) -> Outcome:
        """Apply a batch."""
        return apply_batch(self._stores, self._scope, batch)

    def keep_file(self, note: FileKept, file: Path) -> None:
        """Keep a file with a run."""
        keep_file(self._stores, self._scope, note.run, note.path, file)

    def close(self) -> None:
        """Close the stores."""
        self._close()
