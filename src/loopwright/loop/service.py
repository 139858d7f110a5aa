"""What one can ask of loops."""

from __future__ import annotations

from datetime import datetime

import msgspec
from sqlalchemy import Connection, select

from loopwright.core import Conflict, Invalid, NotFound, Scope, new_request, operation, parse_ref
from loopwright.loop.clock import WorkspaceClock
from loopwright.loop.declare import check_loop
from loopwright.loop.model import Loop, LoopInfo, LoopRun, LoopState, Settled
from loopwright.loop.moving import move
from loopwright.loop.rows import find_loop, find_run, info_of, run_of
from loopwright.loop.running import running_controller, wake_controller
from loopwright.loop.starting import add_trigger, event_that_made, propose
from loopwright.loop.status import LoopStatus
from loopwright.loop.tables import loop_runs, loops
from loopwright.loop.transitions import Cancelled
from loopwright.models import ModelService
from loopwright.release import EndpointService, RolloutService
from loopwright.store import Event, Stores

LoopInfos = list[LoopInfo]
LoopRuns = list[LoopRun]
LoopStatuses = list[LoopStatus]
Events = list[Event]
_DECISIONS = 10
_LONGEST_SETTLE_S = 86_400
DECISION_KINDS = (
    "alert.opened",
    "alert.closed",
    "loop.triggered",
    "loop.training_failed",
    "loop.finished",
    "run.failed",
    "gate.judged",
    "approval.requested",
    "approval.granted",
    "approval.denied",
    "rollout.started",
    "rollout.advanced",
    "rollout.held",
    "rollout.completed",
    "rollout.closed",
    "rollout.rolled_back",
    "model.alias_moved",
)


class LoopService:
    """Declares loops, starts them by hand, shows their runs, and moves a simulated clock. Thread-safe."""

    def __init__(self, stores: Stores, scope: Scope) -> None:
        self.stores, self.scope = stores, scope

    @operation("loops.apply", permission="loops:write", effect="write")
    def apply(self, loop: Loop) -> LoopInfo:
        """Declare a loop, or change one; runs that are under way keep the declaration they began with.

        Its endpoint is made if it is missing. Declaring the same again changes nothing.

        Raises:
            Invalid: a field of the loop makes no sense; the message names it.
            Conflict: its endpoint serves another model.
        """
        check_loop(loop)
        self._endpoints().create(loop.endpoint, loop.model)
        with self.stores.db.begin() as tx:
            same = (loops.c.project == self.scope.project) & (loops.c.name == loop.name)
            row = tx.execute(select(loops).where(same).with_for_update()).one_or_none()
            before = info_of(row) if row is not None else None
            if before is not None and before.loop == loop:
                return before
            self._write(tx, loop, before)
            return find_loop(tx, self.scope, loop.name)

    @operation("loops.list", permission="loops:read")
    def list(self) -> LoopInfos:
        """All loops of the project, by name."""
        query = select(loops).where(loops.c.project == self.scope.project).order_by(loops.c.name)
        with self.stores.db.read() as connection:
            return [info_of(row) for row in connection.execute(query)]

    @operation("loops.get", permission="loops:read")
    def get(self, name: str) -> LoopInfo:
        """One loop as it is declared.

        Raises:
            NotFound: there is none of that name.
        """
        with self.stores.db.read() as connection:
            return find_loop(connection, self.scope, name)

    @operation("loops.overview", permission="loops:read")
    def overview(self) -> LoopStatuses:
        """Each loop with its active runs, its last end, and the newest decisions about it, newest first."""
        return [self._status(info) for info in self.list()]

    @operation("loops.runs", permission="loops:read")
    def runs(self, loop: str = "", active: bool = False, limit: int = 100, after: str = "") -> LoopRuns:
        """Runs of loops, newest first; `after` is the id of the last one of the page before this one."""
        query = select(loop_runs).where(loop_runs.c.project == self.scope.project)
        if loop:
            query = query.where(loop_runs.c.loop == parse_ref(loop, "loop").name)
        if active:
            query = query.where(loop_runs.c.state != LoopState.FINISHED.value)
        if after:
            query = query.where(loop_runs.c.id < after)
        with self.stores.db.read() as connection:
            return [run_of(row) for row in connection.execute(query.order_by(loop_runs.c.id.desc()).limit(limit))]

    @operation("loops.run", permission="loops:read")
    def run(self, id: str) -> LoopRun:
        """One run of a loop, by its id or ref.

        Raises:
            NotFound: there is none.
        """
        with self.stores.db.read() as connection:
            return find_run(connection, self.scope, id)

    @operation("loops.trigger", permission="loops:write", effect="write")
    def trigger(self, name: str, reason: str = "") -> None:
        """Ask a loop to start. It does as soon as it has cooled down and no other run of it is under way.

        Raises:
            NotFound: there is no such loop.
        """
        with self.stores.db.begin() as tx:
            found = find_loop(tx, self.scope, name)
            told = {"by": self.scope.actor, "reason": reason}
            known = not add_trigger(self.stores, tx, found, "manual", self.scope.cause or new_request(), evidence=told)
            if known and not self.scope.follows_event:  # asked twice within one request: two wishes
                add_trigger(self.stores, tx, found, "manual", new_request(), evidence=told)
        wake_controller(self.stores)

    @operation("loops.release", permission="loops:write", effect="write")
    def release(self, model: str, loop: str = "") -> LoopRun:
        """Send a version that exists through a loop's gates, approval, rollout and guard.

        Args:
            model: the version, such as `model:delay@7`.
            loop: whose gates and rollout; by default the one loop of the project that releases this model.

        Raises:
            NotFound: there is no such version or loop.
            Invalid: several loops release this model, or the loop releases another.
        """
        version = ModelService(self.stores, self.scope).get(model)
        # Somebody's request says little; the version's own event goes on with the chain of causes.
        made = event_that_made(self.stores, self.scope.project, version.ref)
        cause = self.scope.cause if self.scope.follows_event else made or self.scope.cause
        with self.stores.db.begin() as tx:
            found = self._releasing(tx, version.name, loop)
            run = propose(self.stores, tx, self.scope.because(cause), found, version.ref)
        wake_controller(self.stores)
        return run

    @operation("loops.cancel", permission="loops:write", effect="write")
    def cancel(self, id: str, reason: str = "") -> LoopRun:
        """Stop a run of a loop; a rollout that it has under way is rolled back.

        Raises:
            NotFound: there is no such run.
            Conflict: it has finished.
        """
        run = self.run(id)
        if not run.active:
            raise Conflict(f"loop run {run.id} has finished already ({run.outcome.value})")
        if run.rollout:
            endpoints = self._endpoints()
            rollouts = RolloutService(self.stores, self.scope, endpoints=endpoints, models=endpoints.models)
            if rollouts.get(run.rollout).state.active:
                rollouts.roll_back(run.rollout, reason or "the loop run was cancelled")
        with self.stores.db.begin() as tx:
            cancelled = move(
                self.stores, tx, self._reread(tx, run), Cancelled(reason or f"cancelled by {self.scope.actor}")
            )
        wake_controller(self.stores)
        return cancelled

    @operation("loops.now", permission="loops:read")
    def now(self) -> datetime:
        """The workspace's time."""
        return self.stores.clock.now()

    @operation("loops.advance_clock", permission="loops:write", effect="write")
    def advance_clock(self, to: datetime) -> datetime:
        """Move a simulated clock forward, for all processes of the workspace.

        Raises:
            Conflict: the clock is the machine's, or stands later already.
            Invalid: the time has no zone.
        """
        clock = self.stores.clock
        if not isinstance(clock, WorkspaceClock):
            raise Conflict(
                "this workspace goes by the machine's clock", next_step='set clock = "simulated" in loopwright.toml'
            )
        moved = clock.advance(to)
        wake_controller(self.stores)
        return moved

    @operation("loops.settle", permission="loops:write", effect="write")
    def settle(self, timeout_s: float = 60.0) -> Settled:
        """Wait until the controller has done all that can be done at the present time of the workspace.

        A rollout that waits for evidence and an approval that waits for a person count as done; a training job that
        runs does not.

        Raises:
            Unavailable: no controller runs in this process.
            Invalid: the timeout is not above 0, or beyond a day.
        """
        if not 0 < timeout_s <= _LONGEST_SETTLE_S:
            next_step = f"write a number above 0, up to {_LONGEST_SETTLE_S:,}"
            raise Invalid(f"a timeout of {timeout_s:g} s", where="timeout_s", next_step=next_step)
        return running_controller(self.stores).settle(timeout_s)

    def _status(self, info: LoopInfo) -> LoopStatus:
        active = self.runs(info.loop.name, active=True)
        newest = self.runs(info.loop.name, limit=max(1, len(active) + 1))
        last = next((run for run in newest if not run.active), None)
        return LoopStatus(info=info, active=active, last=last, decisions=self._decisions(info.loop))

    def _decisions(self, loop: Loop) -> Events:
        """The newest decisions about a loop's endpoint and model."""
        recent = self.stores.events.latest(limit=200, kinds=DECISION_KINDS, project=self.scope.project)
        mine = [event for event in recent if _concerns(event, loop)]
        return mine[:_DECISIONS]

    def _write(self, tx: Connection, loop: Loop, before: LoopInfo | None) -> None:
        event = self.stores.events.append(
            tx, "loop.declared", f"loop:{loop.name}", self.scope, {"loop": msgspec.to_builtins(loop)}
        )
        row = {
            "project": self.scope.project,
            "name": loop.name,
            "spec": msgspec.to_builtins(loop),
            "revision": before.revision + 1 if before is not None else 1,
            "declared_at": event.at,
            "declared_by": self.scope.actor,
            "last_triggered_at": before.last_triggered_at if before is not None else None,
        }
        changed = ["spec", "revision", "declared_at", "declared_by"]
        tx.execute(self.stores.db.upsert(loops, row, ["project", "name"], changed))

    def _releasing(self, tx: Connection, model: str, loop: str) -> LoopInfo:
        if loop:
            found = find_loop(tx, self.scope, loop)
            if found.loop.model != model:
                raise Invalid(f"loop {found.loop.name!r} releases model:{found.loop.model}, not model:{model}")
            return found
        query = select(loops).where(loops.c.project == self.scope.project).order_by(loops.c.name)
        fitting = [info for info in map(info_of, tx.execute(query)) if info.loop.model == model]
        if not fitting:
            raise NotFound(f"no loop releases model:{model}", next_step="declare one: loopwright loops apply loop.yaml")
        if len(fitting) > 1:
            names = ", ".join(info.loop.name for info in fitting)
            raise Invalid(f"several loops release model:{model}", next_step=f"name one of {names}")
        return fitting[0]

    def _reread(self, tx: Connection, run: LoopRun) -> LoopRun:
        return find_run(tx, self.scope, run.id)

    def _endpoints(self) -> EndpointService:
        return EndpointService(self.stores, self.scope, models=ModelService(self.stores, self.scope))


def _concerns(event: Event, loop: Loop) -> bool:
    told = event.evidence
    if told.get("loop") == f"loop:{loop.name}" or told.get("endpoint") in (loop.endpoint, f"endpoint:{loop.endpoint}"):
        return True
    return any(str(ref).startswith(f"model:{loop.model}@") for ref in (event.subject, told.get("model", "")))
