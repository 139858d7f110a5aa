"""The part of a loop run between a trained version and its rollout: gates and approval."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from loopwright.core import Invalid, Scope
from loopwright.loop.model import ApprovalPolicy, LoopRun
from loopwright.loop.moving import actor_of, move
from loopwright.loop.rooms import Rooms
from loopwright.loop.transitions import Approved, Denied, Judged
from loopwright.release import Approval, ApprovalState, GateJudge, GateVerdict


def judge(ws: Rooms, run: LoopRun) -> bool:
    """Let the gates speak; if all pass, ask for approval, which the policy `automatic` grants at once."""
    champion = ws.endpoints.get(run.spec.endpoint).stable
    judge = GateJudge(
        ws.models, ws.datasets, ws.runs, candidate=run.model_version, champion=champion, holdout=run.holdout
    )
    verdicts = judge.judge(run.spec.gates)
    with ws.stores.db.begin() as tx:
        events = [_tell(ws, tx, run, verdict) for verdict in verdicts]
        last = events[-1] if events else run.last_event
        if not all(verdict.ok for verdict in verdicts):
            move(ws.stores, tx, run, Judged(False, _refusals(verdicts), event=last))
            return True
        approval = _ask(ws, tx, run, verdicts, last)
        move(ws.stores, tx, run, Judged(True, _summary(verdicts), approval.id, approval.event))
    return True


def await_approval(ws: Rooms, run: LoopRun) -> bool:
    """Go on when somebody has decided; whether the run moved. A rollout that another one blocks waits for it."""
    approval = ws.approvals.get(run.approval)
    if approval.state is ApprovalState.REQUESTED:
        return False
    if approval.state is ApprovalState.DENIED:
        with ws.stores.db.begin() as tx:
            reason = f"denied by {approval.decided_by}" + (f": {approval.reason}" if approval.reason else "")
            move(ws.stores, tx, run, Denied(reason, approval.event))
        return True
    endpoint = ws.endpoints.get(run.spec.endpoint)
    if endpoint.stable == run.model_version:
        raise Invalid(f"{run.model_version} has the traffic of endpoint {endpoint.name!r} already")
    if endpoint.rollout:
        return False
    share = ws.rollouts.prepare(run.spec.endpoint, run.model_version)
    with ws.stores.db.begin() as tx:
        rollout = ws.rollouts.open(tx, run.spec.endpoint, share, run.spec.rollout, run.spec.guard, cause=approval.event)
        move(ws.stores, tx, run, Approved(rollout.id, rollout.event))
    ws.endpoints.publish()
    return True


def _tell(ws: Rooms, tx: Connection, run: LoopRun, verdict: GateVerdict) -> str:
    told = {**verdict.statistics(), "loop": f"loop:{run.loop}", "run": run.ref}
    scope = Scope(run.project, actor_of(run.loop), run.last_event)
    return ws.stores.events.append(tx, "gate.judged", run.model_version, scope, told).ref


def _ask(ws: Rooms, tx: Connection, run: LoopRun, verdicts: Sequence[GateVerdict], cause: str) -> Approval:
    approvals = ws.scoped(Scope(run.project, actor_of(run.loop), cause)).approvals
    approval = approvals.request(
        tx,
        subject=run.ref,
        model=run.model_version,
        endpoint=run.spec.endpoint,
        evidence={"loop": f"loop:{run.loop}", "gates": [verdict.reason for verdict in verdicts]},
    )
    if run.spec.approval is ApprovalPolicy.PERSON:
        return approval
    return approvals.decide(tx, approval, ApprovalState.GRANTED, "automatic: the loop asks no person")


def _summary(verdicts: Sequence[GateVerdict]) -> str:
    if not verdicts:
        return "the loop has no gates"
    return f"{len(verdicts)} gates passed: " + "; ".join(verdict.reason for verdict in verdicts)


def _refusals(verdicts: Sequence[GateVerdict]) -> str:
    return "; ".join(f"{verdict.outcome.value}: {verdict.reason}" for verdict in verdicts if not verdict.ok)
