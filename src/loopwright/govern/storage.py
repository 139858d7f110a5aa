"""What one can ask of storage: holds on what must stay, and the removal of what nobody needs any more."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from types import ModuleType
from typing import Any

import msgspec
from sqlalchemy import Connection, select, update

from loopwright.core import Conflict, Invalid, NotFound, Scope, new_id, operation, parse_ref
from loopwright.govern.model import EVERY_PROJECT
from loopwright.govern.tables import holds
from loopwright.store import Doomed, Holding, Reach, Stores, find_reach, removable

_DAY_S = 86_400.0
_RUNS_AT_ONCE = 100
_MOST_LISTED = 1000
_LONGEST_RUN = timedelta(days=7)


class Hold(msgspec.Struct, frozen=True):
    """A ref that must stay, with all that it came from, until the hold is released."""

    id: str
    ref: str
    reason: str
    placed_at: datetime
    placed_by: str
    released_at: datetime | None = None
    released_by: str = ""


class Portion(msgspec.Struct, frozen=True):
    """Objects that go, or stay, for one reason."""

    reason: str
    goes: bool
    objects: int
    size_bytes: int


class Kept(msgspec.Struct, frozen=True):
    """Something that was deleted long enough ago and stays all the same."""

    ref: str
    reason: str


class Collection(msgspec.Struct, frozen=True):
    """What a collection removed, or with `dry_run` would remove. `portions` divide all objects by reason."""

    dry_run: bool
    runs: int
    experiments: int
    portions: tuple[Portion, ...]
    kept: tuple[Kept, ...]

    @property
    def freed_bytes(self) -> int:
        """The size of the objects that go."""
        return sum(portion.size_bytes for portion in self.portions if portion.goes)


class StorageService:
    """Holds, and the collection of garbage. `rooms` are the rooms' modules `holding`; see `loopwright.store.Room`."""

    def __init__(self, stores: Stores, scope: Scope, *, rooms: Sequence[ModuleType] = ()) -> None:
        self.stores, self.scope, self._rooms = stores, scope, rooms

    @operation("storage.hold", permission="storage:admin", effect="write")
    def hold(self, ref: str, reason: str) -> Hold:
        """Keep something, and all that it came from, whatever is deleted: a run, experiment, model, version or project.

        Raises:
            Invalid: this is no ref, or there is no reason.
        """
        if not reason.strip():
            raise Invalid("a hold needs a reason", next_step="say why, such as --reason 'case 2026-14'")
        made = Hold(new_id(), str(parse_ref(ref)), reason, self.stores.clock.now(), self.scope.actor)
        with self.stores.db.begin() as tx:
            tx.execute(holds.insert().values(project=self.scope.project, **msgspec.structs.asdict(made)))
            self.stores.events.append(tx, "hold.placed", made.ref, self.scope, {"hold": made.id, "reason": reason})
        return made

    @operation("storage.holds", permission="storage:read")
    def holds(self, released: bool = False) -> list[Hold]:
        """Holds of this project, newest first; also those that were released, if asked for."""
        with self.stores.db.read() as connection:
            return [_hold(row) for row in connection.execute(self._holds(released).order_by(holds.c.id.desc()))]

    @operation("storage.release_hold", permission="storage:admin", effect="write")
    def release_hold(self, id: str, reason: str = "") -> Hold:
        """Give up a hold; it stays in the list of those that were released.

        Raises:
            NotFound: there is no such hold.
            Conflict: it was released before.
        """
        with self.stores.db.begin() as tx:
            row = tx.execute(self._holds(True).where(holds.c.id == id)).one_or_none()
            if row is None:
                raise NotFound(f"there is no hold {id[:60]!r}", next_step="loopwright holds lists them")
            if row.released_at is not None:
                raise Conflict(f"the hold {id} was released by {row.released_by}")
            values = {"released_at": self.stores.clock.now(), "released_by": self.scope.actor}
            tx.execute(update(holds).where(holds.c.id == id).values(values))
            self.stores.events.append(tx, "hold.released", row.ref, self.scope, {"hold": id, "reason": reason})
            return _hold(tx.execute(self._holds(True).where(holds.c.id == id)).one())

    @operation("storage.gc", permission="storage:admin", effect="write")
    def gc(self, dry_run: bool = False, older_than_days: float = 30.0, grace_s: float = 3600.0) -> Collection:
        """Remove for good what was deleted long ago, and the objects that nothing reachable holds.

        Runs and experiments of this project (in the project `*`, of all) go when they were deleted more than
        `older_than_days` ago, unless a model version or a hold needs them. Objects, which all projects share, go when
        no row of any room names them and they were put more than `grace_s` ago and before every run that is running:
        a writer puts an object first and names it later. A collection that is killed leaves each run whole or gone;
        the next one goes on.

        Raises:
            Invalid: a time is negative.
        """
        if older_than_days < 0 or grace_s < 0:
            raise Invalid("a time before which things go cannot lie ahead", next_step="give 0 or more")
        before_s = time.time() - grace_s
        deleted_before = self.stores.clock.now() - timedelta(seconds=older_than_days * _DAY_S)
        with self.stores.db.read() as connection:
            runs, kept = self._expired(connection, deleted_before)
            doomed = frozenset(run.id for run in runs)
            planned = find_reach(connection, self.stores.objects, self._holdings(), doomed)
        gone = 0 if dry_run else self._remove_runs(runs)
        experiments = 0 if dry_run else self._remove_experiments(deleted_before)
        portions = self._sweep(planned, before_s, dry_run)
        return Collection(dry_run, len(runs) if dry_run else gone, experiments, portions, kept[:_MOST_LISTED])

    def _sweep(self, planned: Reach, before_s: float, dry_run: bool) -> tuple[Portion, ...]:
        """Look at every object; unless this is a trial, remove those that nothing holds now."""
        objects = self.stores.objects
        with self.stores.db.read() as connection:
            before_s = min(before_s, self._busy_since(connection, before_s))
            reach = planned if dry_run else find_reach(connection, objects, self._holdings())
        reach.doomed = planned.doomed
        sums: dict[tuple[str, bool], tuple[int, int]] = {}
        for age, reason, goes in removable(objects, reach, before_s):
            if goes and not dry_run and not objects.retire(age.digest, before_s):
                reason, goes = "put lately", False
            count, size = sums.get((reason, goes), (0, 0))
            sums[reason, goes] = count + 1, size + age.size_bytes
        found = (Portion(reason, goes, *sums[reason, goes]) for reason, goes in sums)
        return tuple(sorted(found, key=lambda portion: (not portion.goes, -portion.size_bytes, portion.reason)))

    def _expired(self, connection: Connection, before: datetime) -> tuple[list[Doomed], tuple[Kept, ...]]:
        needed = self._needed(connection)

        def is_protected(project: str, ref: str) -> bool:
            return ref in needed.get(project, ())

        runs: list[Doomed] = []
        kept: list[Kept] = []
        for expire in self._hooks("expire"):
            found = expire(connection, self._project, before, is_protected)
            runs += found.runs
            kept += [Kept(ref, reason) for ref, reason in found.kept]
        return runs, tuple(kept)

    def _needed(self, connection: Connection) -> dict[str, set[str]]:
        """By project: what holds and rooms' roots name, and all that it came from."""
        named: dict[str, set[str]] = {}
        for row in connection.execute(select(holds.c.project, holds.c.ref).where(holds.c.released_at.is_(None))):
            named.setdefault(row.project, set()).add(row.ref)
        for roots in self._hooks("roots"):
            for project, ref in roots(connection):
                named.setdefault(project, set()).add(ref)
        return {project: self.stores.lineage.ancestors(connection, refs, project) for project, refs in named.items()}

    def _remove_runs(self, runs: Sequence[Doomed]) -> int:
        gone = 0
        for start in range(0, len(runs), _RUNS_AT_ONCE):
            with self.stores.db.begin() as tx:
                some = list(runs[start : start + _RUNS_AT_ONCE])
                for still in self._hooks("still_deleted"):
                    some = still(tx, some)
                for forget in self._hooks("forget_runs"):
                    forget(self.stores, tx, some)
                if some:
                    evidence = {"runs": [run.id for run in some]}
                    self.stores.events.append(tx, "runs.removed", f"project:{some[0].project}", self.scope, evidence)
                gone += len(some)
        return gone

    def _remove_experiments(self, before: datetime) -> int:
        with self.stores.db.begin() as tx:
            needed = self._needed(tx)
            removed: list[tuple[str, str]] = []
            for forget in self._hooks("forget_experiments"):
                removed += forget(tx, self._project, before, lambda project, ref: ref in needed.get(project, ()))
            for _, id in removed:
                self.stores.events.append(tx, "experiment.removed", f"experiment:{id}", self.scope, {})
        return len(removed)

    def _busy_since(self, connection: Connection, default: float) -> float:
        at_least = self.stores.clock.now() - _LONGEST_RUN
        found = [since for ask in self._hooks("running_since") if (since := ask(connection, at_least)) is not None]
        return min((since.timestamp() for since in found), default=default)

    def _holdings(self) -> Iterable[Holding]:
        return [holding for room in self._rooms for holding in room.HOLDINGS]

    def _hooks(self, name: str) -> list[Any]:
        return [hook for room in self._rooms if (hook := getattr(room, name, None)) is not None]

    @property
    def _project(self) -> str | None:
        return None if self.scope.project == EVERY_PROJECT else self.scope.project

    def _holds(self, released: bool) -> Any:
        query = select(holds)
        if self._project is not None:
            query = query.where(holds.c.project == self._project)
        return query if released else query.where(holds.c.released_at.is_(None))


def _hold(row: Any) -> Hold:
    return Hold(row.id, row.ref, row.reason, row.placed_at, row.placed_by, row.released_at, row.released_by)
