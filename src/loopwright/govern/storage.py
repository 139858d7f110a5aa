"""What one can ask of storage: holds on what must stay, and the removal of what nobody needs any more."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from types import ModuleType
from typing import Any

import msgspec
from sqlalchemy import Connection, select, update

from loopwright.core import Conflict, Invalid, NotFound, Scope, new_id, operation, parse_ref
from loopwright.govern.model import EVERY_PROJECT
from loopwright.govern.tables import holds
from loopwright.store import Doomed, Holding, Lapsed, Reach, Stores, find_reach, removable

_DAY_S = 86_400.0
_RUNS_AT_ONCE = 100
_MOST_LISTED = 1000
_REMOVED = {"model": "model.version_removed", "logged_model": "logged_model.removed"}
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
    versions: int
    logged_models: int
    portions: tuple[Portion, ...]
    kept: tuple[Kept, ...]

    @property
    def freed_bytes(self) -> int:
        """The size of the objects that go."""
        return sum(portion.size_bytes for portion in self.portions if portion.goes)


class _Plan(msgspec.Struct, frozen=True):
    """What is to go; what was deleted long ago and stays; and by project what holds and roots need."""

    runs: list[Doomed]
    lapsed: list[Lapsed]
    kept: list[Kept]
    needed: dict[str, set[str]]

    @property
    def doomed(self) -> frozenset[str]:
        """What rows of a holding may belong to that go."""
        return frozenset([run.id for run in self.runs] + [item.key for item in self.lapsed])

    def is_protected(self, project: str, ref: str) -> bool:
        """Whether a ref is reachable from a hold or a root."""
        return ref in self.needed.get(project, ())


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

        Runs, experiments, logged models and model versions of this project (in the project `*`, of all) go when they
        were deleted more than `older_than_days` ago, unless something living needs them: a model version, an endpoint,
        a rollout, an approval that is asked for, a run that read them, a hold. Objects, which all projects share, go
        when no row of any room names them and they were put more than `grace_s` ago and before every run that is
        running: a writer puts an object first and names it later. A collection that is killed leaves each of them
        whole or gone; the next one goes on.

        Raises:
            Invalid: a time is negative.
        """
        if older_than_days < 0 or grace_s < 0:
            raise Invalid("a time before which things go cannot lie ahead", next_step="give 0 or more")
        before_s = time.time() - grace_s
        deleted_before = self.stores.clock.now() - timedelta(seconds=older_than_days * _DAY_S)
        with self.stores.db.read() as connection:
            plan = self._plan(connection, deleted_before)
            planned = find_reach(connection, self.stores.objects, self._holdings(), plan.doomed)
            experiments = self._experiments("expire_experiments", connection, deleted_before, plan)
        lapsed, runs = plan.lapsed, len(plan.runs)
        if not dry_run:
            lapsed, runs = self._remove_lapsed(plan.lapsed), self._remove_runs(plan.runs)
            experiments = self._remove_experiments(deleted_before)
        portions = self._sweep(planned, before_s, dry_run)
        kinds = Counter(item.kind for item in lapsed)
        return Collection(
            dry_run,
            runs,
            len(experiments),
            kinds["model"],
            kinds["logged_model"],
            portions,
            tuple(plan.kept[:_MOST_LISTED]),
        )

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

    def _plan(self, connection: Connection, before: datetime) -> _Plan:
        plan = _Plan([], [], [], self._needed(connection))
        for lapse in reversed(self._hooks("lapse")):
            found = lapse(connection, self._project, before, plan.is_protected)
            plan.lapsed.extend(found.going)
            plan.kept.extend(Kept(ref, reason) for ref, reason in found.kept)
            self._reach_up(connection, found.needs, plan.needed)
        for expire in self._hooks("expire"):
            found = expire(connection, self._project, before, plan.is_protected)
            plan.runs.extend(found.runs)
            plan.kept.extend(Kept(ref, reason) for ref, reason in found.kept)
        return plan

    def _needed(self, connection: Connection) -> dict[str, set[str]]:
        """By project: what holds and rooms' roots name, and all that it came from."""
        held = connection.execute(select(holds.c.project, holds.c.ref).where(holds.c.released_at.is_(None))).all()
        named = [(row.project, row.ref) for row in held]
        named += [found for roots in self._hooks("roots") for found in roots(connection)]
        needed: dict[str, set[str]] = {}
        self._reach_up(connection, named, needed)
        return needed

    def _reach_up(self, connection: Connection, named: Iterable[tuple[str, str]], needed: dict[str, set[str]]) -> None:
        """Add things, and all that they came from, to what is needed."""
        by_project: dict[str, set[str]] = {}
        for project, ref in named:
            by_project.setdefault(project, set()).add(ref)
        for project, refs in by_project.items():
            reached = self.stores.lineage.ancestors(connection, refs, project)
            needed.setdefault(project, set()).update(reached)

    def _remove_lapsed(self, lapsed: Sequence[Lapsed]) -> list[Lapsed]:
        gone: list[Lapsed] = []
        for start in range(0, len(lapsed), _RUNS_AT_ONCE):
            some = lapsed[start : start + _RUNS_AT_ONCE]
            with self.stores.db.begin() as tx:
                for forget in self._hooks("forget_lapsed"):
                    removed: list[Lapsed] = forget(self.stores, tx, some)
                    for item in removed:
                        scope = Scope(item.project, self.scope.actor, self.scope.cause)
                        self.stores.events.append(tx, _REMOVED[item.kind], item.ref, scope, {})
                    gone += removed
        return gone

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

    def _remove_experiments(self, before: datetime) -> list[tuple[str, str]]:
        with self.stores.db.begin() as tx:
            plan = _Plan([], [], [], self._needed(tx))
            removed = self._experiments("forget_experiments", tx, before, plan)
            for _, id in removed:
                self.stores.events.append(tx, "experiment.removed", f"experiment:{id}", self.scope, {})
        return removed

    def _experiments(self, hook: str, connection: Connection, before: datetime, plan: _Plan) -> list[tuple[str, str]]:
        """The project and id of each experiment that a hook names, or removes: those with no run but the doomed."""
        doomed = frozenset(run.seq for run in plan.runs)
        found: list[tuple[str, str]] = []
        for ask in self._hooks(hook):
            found += ask(connection, self._project, before, plan.is_protected, doomed)
        return found

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
