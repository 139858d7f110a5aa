"""How runs of loops begin: events and timers become waiting triggers, waiting triggers become runs. Each once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, func, select, update

from loopwright.core import Scope, new_id
from loopwright.loop.model import AnyTrigger, Every, LoopInfo, LoopRun, LoopState
from loopwright.loop.moving import actor_of
from loopwright.loop.rows import info_of, last_ended_at, values_of
from loopwright.loop.tables import loop_runs, loop_triggers, loops
from loopwright.loop.triggers import ALERT_CLOSED, ALERT_OPENED, VERSION_CREATED, due_at, must_wait, wants
from loopwright.store import Event, Stores

READER = "loop controller"
_KINDS = (ALERT_OPENED, ALERT_CLOSED, VERSION_CREATED)
_PAGE = 1000


def event_that_made(stores: Stores, project: str, model: str) -> str:
    """The ref of the event that tells of a model version's making; empty if there is none."""
    found = stores.events.latest(limit=1, kinds=("model.version_created",), project=project, subject=model)
    return found[0].ref if found else ""


def collect(stores: Stores, now: datetime) -> bool:
    """Turn new events and due timers into waiting triggers; whether there were any."""
    infos = _all_loops(stores)
    news = stores.events.read(after=stores.events.cursor(READER), limit=_PAGE, kinds=_KINDS)
    due = [(info, trigger) for info in infos for trigger in info.loop.triggers if _is_due(info, trigger, now)]
    if not news and not due:
        return False
    with stores.db.begin() as tx:
        added = [_heed(stores, tx, infos, event) for event in news]
        added += [_fire(stores, tx, info, trigger) for info, trigger in due if isinstance(trigger, Every)]
        if news:
            stores.events.save_cursor(tx, READER, news[-1].position or 0)
    return bool(news) or any(added)


def add_trigger(
    stores: Stores,
    tx: Connection,
    info: LoopInfo,
    kind: str,
    cause: str,
    *,
    subject: str = "",
    evidence: Mapping[str, Any] | None = None,
) -> bool:
    """Let a cause wait for a loop; False if it asked before."""
    row = {
        "id": new_id(),
        "project": info.project,
        "loop": info.loop.name,
        "cause": cause,
        "kind": kind,
        "subject": subject,
        "at": stores.clock.now(),
        "evidence": dict(evidence or {}),
        "state": "waiting",
        "run": "",
    }
    insert = stores.db.upsert(loop_triggers, row, ["project", "loop", "cause"]).returning(loop_triggers.c.id)
    return tx.execute(insert).first() is not None


def start_waiting(stores: Stores, now: datetime) -> bool:
    """Start a run for each loop that has waiting triggers and need not wait; whether any was started."""
    with stores.db.read() as connection:
        waiting = _waiting(connection)
        ready = [key for key in waiting if not _wait_reason(connection, key, now)]
    started = [_start(stores, project, loop, now) for project, loop in ready]
    return any(started)


def propose(stores: Stores, tx: Connection, scope: Scope, info: LoopInfo, model_version: str) -> LoopRun:
    """Begin a run at its gates, for a version that is there already (event loop.triggered)."""
    identifier = new_id()
    told = {"loop": f"loop:{info.loop.name}", "trigger": "proposed", "model": model_version, "by": scope.actor}
    event = stores.events.append(tx, "loop.triggered", f"looprun:{identifier}", scope, told)
    run = _fresh(identifier, info, "proposed", event)
    run = msgspec.structs.replace(run, state=LoopState.GATING, model_version=model_version)
    tx.execute(loop_runs.insert().values(**values_of(run)))
    return run


def _all_loops(stores: Stores) -> list[LoopInfo]:
    with stores.db.read() as connection:
        return [info_of(row) for row in connection.execute(select(loops).order_by(loops.c.project, loops.c.name))]


def _is_due(info: LoopInfo, trigger: AnyTrigger, now: datetime) -> bool:
    return isinstance(trigger, Every) and now >= due_at(trigger, _last_start(info))


def _last_start(info: LoopInfo) -> datetime:
    return info.last_triggered_at or info.declared_at


def _fire(stores: Stores, tx: Connection, info: LoopInfo, trigger: Every) -> bool:
    due = due_at(trigger, _last_start(info))
    evidence = {"due_at": due, "every_s": trigger.seconds}
    return add_trigger(stores, tx, info, "every", f"timer:{info.loop.name}:{due.isoformat()}", evidence=evidence)


def _heed(stores: Stores, tx: Connection, infos: Sequence[LoopInfo], event: Event) -> bool:
    if event.kind == ALERT_CLOSED:
        return _drop(tx, event)
    added = False
    for info in infos:
        trigger = next((each for each in info.loop.triggers if wants(each, event)), None)
        if info.project == event.project and trigger is not None and not _came_before(event, info):
            kind = "on_alert" if event.kind == ALERT_OPENED else "on_new_version"
            added |= add_trigger(
                stores, tx, info, kind, event.ref, subject=event.subject, evidence=_of_interest(event.evidence)
            )
    return added


def _came_before(event: Event, info: LoopInfo) -> bool:
    """Whether an event is older than the loop: what was there when a loop was first declared does not start it."""
    return info.revision == 1 and event.at < info.declared_at


def _of_interest(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """The plain values of an event's evidence; the event itself keeps the rest."""
    return {name: value for name, value in evidence.items() if isinstance(value, str | int | float | bool)}


def _drop(tx: Connection, event: Event) -> bool:
    """An alert that closed before its loop could start asks no longer."""
    stale = (loop_triggers.c.state == "waiting") & (loop_triggers.c.subject == event.subject)
    here = loop_triggers.c.project == event.project
    return tx.execute(update(loop_triggers).where(stale & here).values(state="dropped")).rowcount > 0


def _waiting(connection: Connection) -> list[tuple[str, str]]:
    query = select(loop_triggers.c.project, loop_triggers.c.loop).where(loop_triggers.c.state == "waiting").distinct()
    return [(row.project, row.loop) for row in connection.execute(query)]


def _wait_reason(connection: Connection, key: tuple[str, str], now: datetime) -> str:
    info = _info(connection, *key)
    if info is None:
        return "the loop is gone"
    active = select(func.count()).where(
        loop_runs.c.project == key[0],
        loop_runs.c.loop == key[1],
        loop_runs.c.state != LoopState.FINISHED.value,
    )
    return must_wait(info.loop, connection.execute(active).scalar_one(), last_ended_at(connection, *key), now)


def _info(connection: Connection, project: str, loop: str) -> LoopInfo | None:
    row = connection.execute(select(loops).where(loops.c.project == project, loops.c.name == loop)).one_or_none()
    return info_of(row) if row is not None else None


def _start(stores: Stores, project: str, loop: str, now: datetime) -> bool:
    with stores.db.begin() as tx:
        stores.db.lock(tx, f"loop {project}/{loop}")
        info = _info(tx, project, loop)
        query = select(loop_triggers).where(
            loop_triggers.c.project == project, loop_triggers.c.loop == loop, loop_triggers.c.state == "waiting"
        )
        asked = tx.execute(query.order_by(loop_triggers.c.id)).all()
        if info is None or not asked or _wait_reason(tx, (project, loop), now):
            return False
        run = _begin(stores, tx, info, asked)
        taken = loop_triggers.c.id.in_([row.id for row in asked])
        tx.execute(update(loop_triggers).where(taken).values(state="used", run=run.id))
        here = (loops.c.project == project) & (loops.c.name == loop)
        tx.execute(update(loops).where(here).values(last_triggered_at=run.created_at))
    return True


def _begin(stores: Stores, tx: Connection, info: LoopInfo, asked: Sequence[Row[Any]]) -> LoopRun:
    first = asked[0]
    identifier = new_id()
    told = {"loop": f"loop:{info.loop.name}", "trigger": first.kind, "because": first.evidence}
    if len(asked) > 1:
        told["other_causes"] = [row.cause for row in asked[1:]]
    scope = Scope(info.project, actor_of(info.loop.name), first.cause)
    event = stores.events.append(tx, "loop.triggered", f"looprun:{identifier}", scope, told)
    run = _fresh(identifier, info, first.kind, event)
    tx.execute(loop_runs.insert().values(**values_of(run)))
    return run


def _fresh(identifier: str, info: LoopInfo, trigger: str, event: Event) -> LoopRun:
    return LoopRun(
        id=identifier,
        project=info.project,
        loop=info.loop.name,
        spec=info.loop,
        state=LoopState.PENDING,
        trigger=trigger,
        cause=event.cause,
        last_event=event.ref,
        created_at=event.at,
        updated_at=event.at,
    )
