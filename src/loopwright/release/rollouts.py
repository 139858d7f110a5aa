"""Rollouts: started, judged, advanced, completed and taken back; each decision once, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import Connection, Row, select, update

from loopwright.core import Conflict, Invalid, NotFound, Scope, new_id, operation, parse_ref
from loopwright.models import ModelService
from loopwright.release.checks import check_guard, check_plan
from loopwright.release.decisions import Action, Decision, total_of
from loopwright.release.model import Arm, Endpoint, Guard, Rollout, RolloutPlan, RolloutState, Share, Stratum
from loopwright.release.publishing import publish
from loopwright.release.steps import next_state
from loopwright.release.tables import rollouts
from loopwright.release.traffic import change_traffic, find_endpoint, previous_of, split
from loopwright.release.weighing import weigh
from loopwright.store import Event, Stores

if TYPE_CHECKING:
    from loopwright.release.endpoints import EndpointService

Rollouts = list[Rollout]
_ACTIVE = tuple(state.value for state in RolloutState if state.active)
_RELEASED = (RolloutState.GUARDING.value, RolloutState.COMPLETED.value)


class RolloutService:
    """Moves an endpoint's traffic from one version to another. Thread-safe; a decision that somebody else took first is
    refused with Conflict, so that each is taken once."""

    def __init__(self, stores: Stores, scope: Scope, *, endpoints: EndpointService, models: ModelService) -> None:
        self.stores, self.scope, self.endpoints, self.models = stores, scope, endpoints, models

    @operation("rollouts.list", permission="rollouts:read")
    def list(self, endpoint: str = "", active: bool = False, limit: int = 100, after: str = "") -> Rollouts:
        """Rollouts, newest first; `after` is the id of the last one of the page before this one."""
        query = select(rollouts).where(rollouts.c.project == self.scope.project)
        if endpoint:
            query = query.where(rollouts.c.endpoint == endpoint)
        if active:
            query = query.where(rollouts.c.state.in_(_ACTIVE))
        if after:
            query = query.where(rollouts.c.id < after)
        with self.stores.db.read() as connection:
            return [_rollout(row) for row in connection.execute(query.order_by(rollouts.c.id.desc()).limit(limit))]

    @operation("rollouts.get", permission="rollouts:read")
    def get(self, id: str) -> Rollout:
        """One rollout, by its id or ref.

        Raises:
            NotFound: there is none.
        """
        with self.stores.db.read() as connection:
            return self.find(connection, id)

    @operation("rollouts.judge", permission="rollouts:read")
    def judge(self, id: str) -> Decision:
        """What the evidence says of a rollout now, in words and numbers; nothing is changed.

        Raises:
            NotFound: there is no such rollout.
        """
        return self.weigh(self.get(id))[0]

    @operation("rollouts.start", permission="rollouts:write", effect="write")
    def start(
        self, endpoint: str, candidate: str, plan: RolloutPlan | None = None, guard: Guard | None = None
    ) -> Rollout:
        """Begin to give a version traffic, without the gates of a loop (`loops.release` goes through them).

        Raises:
            NotFound: there is no such endpoint or version.
            Invalid: the plan cannot be followed, or the version is of another model.
            Conflict: a rollout is under way at this endpoint, or the version is its stable one.
        """
        share = self.prepare(endpoint, candidate)
        with self.stores.db.begin() as tx:
            rollout = self.open(tx, endpoint, share, plan or RolloutPlan(), guard or Guard(), cause=self.scope.cause)
        publish(self.stores)
        return rollout

    @operation("rollouts.roll_back", permission="rollouts:write", effect="write")
    def roll_back(self, id: str, reason: str = "") -> Rollout:
        """Take a candidate back by hand; all traffic returns to the control.

        Raises:
            NotFound: there is no such rollout.
            Conflict: it is over, or had no control.
        """
        decision = Decision(Action.ROLL_BACK, reason or "rolled back by hand", {"by": self.scope.actor})
        return self._by_hand(self.get(id), decision)

    @operation("rollouts.advance", permission="rollouts:write", effect="write")
    def advance(self, id: str, reason: str = "") -> Rollout:
        """Move a rollout one step on by hand, whatever the evidence; after the last step the candidate takes all.

        Raises:
            NotFound: there is no such rollout.
            Conflict: it has all traffic already, or is over.
        """
        rollout = self.get(id)
        if rollout.state not in (RolloutState.RUNNING, RolloutState.HELD):
            raise Conflict(f"rollout {rollout.id} is {rollout.state.value}; there is no step left")
        last = rollout.step + 1 >= len(rollout.plan.steps)
        action = Action.COMPLETE if last else Action.ADVANCE
        return self._by_hand(rollout, Decision(action, reason or "advanced by hand", {"by": self.scope.actor}))

    def prepare(self, endpoint: str, candidate: str) -> Share:
        """The share that `open` needs, looked up beforehand so that its transaction stays short.

        Raises:
            NotFound: there is no such endpoint or version.
            Invalid: the version is of another model.
        """
        version, target = self.models.servable(candidate), self.endpoints.get(endpoint)
        if version.name != target.model:
            raise Invalid(f"{version.ref} is not a version of model:{target.model}", where=f"endpoint {target.name}")
        return Share(version.ref, version.bundle, 0.0)

    def open(
        self, tx: Connection, endpoint: str, candidate: Share, plan: RolloutPlan, guard: Guard, *, cause: str
    ) -> Rollout:
        """Start a rollout in the caller's transaction (event rollout.started). The caller publishes afterwards.

        Raises:
            Conflict: a rollout is under way at this endpoint, or the version is its stable one.
            Invalid: the plan cannot be followed.
        """
        check_plan(plan, "plan")
        check_guard(guard, "guard")
        target = find_endpoint(tx, self.scope, endpoint)
        if target.rollout:
            raise Conflict(
                f"rollout {target.rollout} is under way at endpoint {target.name!r}",
                next_step=f"loopwright endpoints roll-back {target.name}",
            )
        if target.stable == candidate.model:
            raise Conflict(f"{candidate.model} has the traffic of endpoint {target.name!r} already")
        identifier = new_id()
        told = {
            "endpoint": f"endpoint:{target.name}",
            "control": target.stable,
            "candidate": candidate.model,
            "share": plan.step(0).share if target.stable else 1.0,
            "plan": msgspec.to_builtins(plan),
        }
        event = self._tell(tx, "rollout.started", identifier, told, cause)
        rollout = _fresh(identifier, self.scope.project, target, candidate.model, plan, guard, event)
        tx.execute(rollouts.insert().values(**_values(rollout)))
        self._route(tx, target, candidate, rollout, event)
        return rollout

    def weigh(self, rollout: Rollout) -> tuple[Decision, Sequence[Stratum]]:
        """What is to be done with a rollout now, and the evidence for it, as `apply` takes them."""
        return weigh(self.stores, self.scope, self.models, rollout)

    def apply(self, rollout: Rollout, decision: Decision, strata: Sequence[Stratum] = ()) -> Rollout:
        """Carry a decision out, with its event and the change of traffic in one transaction, and publish it.

        Raises:
            Conflict: somebody else moved the rollout since it was read.
        """
        if decision.action is Action.WAIT:
            return rollout
        with self.stores.db.begin() as tx:
            moved = self._carry_out(tx, rollout, decision, strata)
        publish(self.stores)
        return moved

    def undo(self, endpoint: str, reason: str) -> Rollout | None:
        """End the rollout that is under way at an endpoint, or undo its last change of stable version.

        Raises:
            NotFound: there is no such endpoint.
            Conflict: no version was there before.
        """
        target = self.endpoints.get(endpoint)
        if target.rollout:
            return self.roll_back(target.rollout, reason)
        with self.stores.db.begin() as tx:
            rollout = self._undo(tx, find_endpoint(tx, self.scope, endpoint), reason)
        publish(self.stores)
        return rollout

    def find(self, connection: Connection, id: str) -> Rollout:
        """One rollout, read in the caller's transaction.

        Raises:
            NotFound: there is none.
        """
        identifier = parse_ref(id, "rollout").name
        query = select(rollouts).where(rollouts.c.id == identifier, rollouts.c.project == self.scope.project)
        row = connection.execute(query).one_or_none()
        if row is None:
            raise NotFound(f"there is no rollout {identifier!r}", next_step="loopwright rollouts list")
        return _rollout(row)

    def _by_hand(self, rollout: Rollout, decision: Decision) -> Rollout:
        if not rollout.state.active:
            raise Conflict(f"rollout {rollout.id} is {rollout.state.value} already")
        if decision.action is Action.ROLL_BACK and not rollout.control:
            raise Conflict(f"no version was there before {rollout.candidate}: there is nothing to go back to")
        return self.apply(rollout, decision)

    def _carry_out(self, tx: Connection, rollout: Rollout, decision: Decision, strata: Sequence[Stratum]) -> Rollout:
        target = find_endpoint(tx, self.scope, rollout.endpoint)
        now = self.stores.clock.now()
        after = next_state(rollout, decision, now, total_of([stratum.control for stratum in strata]))
        told = {
            "endpoint": f"endpoint:{rollout.endpoint}",
            "control": rollout.control,
            "candidate": rollout.candidate,
            "share": {"before": rollout.share, "after": after.share},
            "reason": decision.reason,
            "statistics": decision.statistics,
        }
        event = self._tell(tx, _KINDS[decision.action], rollout.id, told, self._cause(rollout))
        after = msgspec.structs.replace(after, event=event.ref)
        same = (rollouts.c.id == rollout.id) & (rollouts.c.revision == rollout.revision)
        if tx.execute(update(rollouts).where(same).values(**_values(after))).rowcount != 1:
            raise Conflict(f"rollout {rollout.id} was moved by somebody else", next_step="read it again")
        if (after.share, after.state.active) != (rollout.share, rollout.state.active):
            self._route(tx, target, self._share(target, rollout.candidate), after, event)
        return after

    def _cause(self, rollout: Rollout) -> str:
        """A person's deed is caused by the request; the controller's by the decision before."""
        return self.scope.cause or rollout.event

    def _route(self, tx: Connection, target: Endpoint, candidate: Share, rollout: Rollout, event: Event) -> None:
        """Give the endpoint the shares that the rollout's state asks for."""
        stable = self._share(target, rollout.control) if rollout.control else None
        taken = rollout.state in (RolloutState.GUARDING, RolloutState.COMPLETED)
        change_traffic(
            self.stores,
            tx,
            self.scope,
            target,
            shares=split(stable, candidate, rollout.share),
            stable=rollout.candidate if taken else rollout.control,
            rollout=rollout.id if rollout.state.active else "",
            reason=event.kind,
            cause=event.ref,
        )

    def _share(self, target: Endpoint, model: str) -> Share:
        served = next((share for share in target.shares if share.model == model), None)
        if served is not None:
            return served
        version = self.models.servable(model)
        return Share(version.ref, version.bundle, 0.0)

    def _undo(self, tx: Connection, target: Endpoint, reason: str) -> Rollout | None:
        query = select(rollouts).where(
            rollouts.c.endpoint == target.name,
            rollouts.c.candidate == target.stable,
            rollouts.c.state.in_(_RELEASED),
            rollouts.c.control != "",
        )
        row = tx.execute(query.order_by(rollouts.c.id.desc()).limit(1)).one_or_none()
        back_to = _rollout(row).control if row is not None else previous_of(tx, target.name)
        if not back_to:
            raise Conflict(f"endpoint {target.name!r} had no version before {target.stable or 'now'}")
        cause, done = self.scope.cause, None
        if row is not None:
            done = self._mark_rolled_back(tx, _rollout(row), reason)
            cause = done.event
        change_traffic(
            self.stores,
            tx,
            self.scope,
            target,
            shares=split(None, self._share(target, back_to), 1.0),
            stable=back_to,
            rollout="",
            reason=reason,
            cause=cause,
        )
        return done

    def _mark_rolled_back(self, tx: Connection, rollout: Rollout, reason: str) -> Rollout:
        told = {
            "endpoint": f"endpoint:{rollout.endpoint}",
            "control": rollout.control,
            "candidate": rollout.candidate,
            "share": {"before": rollout.share, "after": 0.0},
            "reason": reason,
        }
        event = self._tell(tx, "rollout.rolled_back", rollout.id, told, self._cause(rollout))
        decision = Decision(Action.ROLL_BACK, reason)
        done = msgspec.structs.replace(next_state(rollout, decision, event.at, Arm()), event=event.ref)
        tx.execute(update(rollouts).where(rollouts.c.id == rollout.id).values(**_values(done)))
        return done

    def _tell(self, tx: Connection, kind: str, id: str, evidence: Mapping[str, Any], cause: str) -> Event:
        return self.stores.events.append(tx, kind, f"rollout:{id}", self.scope, evidence, cause=cause)


_KINDS = {
    Action.ADVANCE: "rollout.advanced",
    Action.COMPLETE: "rollout.completed",
    Action.HOLD: "rollout.held",
    Action.CLOSE: "rollout.closed",
    Action.ROLL_BACK: "rollout.rolled_back",
}


def _fresh(
    identifier: str, project: str, target: Endpoint, candidate: str, plan: RolloutPlan, guard: Guard, event: Event
) -> Rollout:
    return Rollout(
        id=identifier,
        project=project,
        endpoint=target.name,
        control=target.stable,
        candidate=candidate,
        plan=plan,
        guard=guard,
        state=RolloutState.RUNNING,
        step=0,
        share=plan.step(0).share if target.stable else 1.0,
        started_at=event.at,
        step_started_at=event.at,
        starts=(event.at,),
        event=event.ref,
    )


def _values(rollout: Rollout) -> dict[str, Any]:
    plain = msgspec.to_builtins(rollout)
    times = ("started_at", "step_started_at", "ended_at")
    return {**plain, **{name: getattr(rollout, name) for name in times}}


def _rollout(row: Row[Any]) -> Rollout:
    return msgspec.convert({str(name): value for name, value in row._mapping.items()}, Rollout)
