"""How runs of scoring jobs begin: events and timers become waiting runs, each once."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, select, update

from loopwright.core import Scope, new_id
from loopwright.loop.model import Every
from loopwright.loop.scoring.model import ScoringJobInfo, ScoringRun, ScoringState
from loopwright.loop.scoring.rows import all_jobs, run_of, values_of
from loopwright.loop.tables import scoring_jobs, scoring_runs
from loopwright.loop.triggers import ALERT_OPENED, VERSION_CREATED, due_at, wants

if TYPE_CHECKING:
    from loopwright.store import Event, Stores

READER = "scoring jobs"
_KINDS = (ALERT_OPENED, VERSION_CREATED)
_PAGE = 1000


def actor_of(job: str) -> str:
    """On whose behalf a scoring job acts."""
    return f"scoring:{job}"


def collect(stores: Stores, now: datetime) -> bool:
    """Turn new events and due timers into waiting runs; whether there were any."""
    with stores.db.read() as connection:
        infos = all_jobs(connection)
    news = stores.events.read(after=stores.events.cursor(READER), limit=_PAGE, kinds=_KINDS)
    timers = [(info, each) for info in infos for each in info.job.triggers if isinstance(each, Every)]
    due = [(info, timer, at) for info, timer in timers if (at := due_at(timer, _last(info))) <= now]
    if not news and not due:
        return False
    with stores.db.begin() as tx:
        for event in news:
            _heed(stores, tx, infos, event)
        for info, timer, at in due:
            stores.db.lock(tx, f"scoring {info.project}")
            cause = f"timer:{info.job.name}:{at.isoformat()}"
            wait_for(stores, tx, info, "every", cause, {"due_at": at, "every_s": timer.seconds})
        if news:
            stores.events.save_cursor(tx, READER, news[-1].position or 0)
    return True


def wait_for(
    stores: Stores, tx: Connection, info: ScoringJobInfo, trigger: str, cause: str, told: Mapping[str, Any]
) -> ScoringRun:
    """Let a run of a job wait; the one that waits already, if there is one. The caller holds the project's lock."""
    here = (scoring_jobs.c.project == info.project) & (scoring_jobs.c.name == info.job.name)
    tx.execute(update(scoring_jobs).where(here).values(last_triggered_at=stores.clock.now()))
    waiting = select(scoring_runs).where(
        scoring_runs.c.project == info.project,
        scoring_runs.c.job == info.job.name,
        scoring_runs.c.state == ScoringState.WAITING.value,
    )
    row = tx.execute(waiting).first()
    if row is not None:
        return run_of(row)
    identifier = new_id()
    scope = Scope(info.project, actor_of(info.job.name), cause)
    evidence = {"job": f"scoring:{info.job.name}", "trigger": trigger, "because": dict(told)}
    event = stores.events.append(tx, "scoring.triggered", f"run:{identifier}", scope, evidence)
    run = ScoringRun(
        id=identifier,
        project=info.project,
        job=info.job.name,
        spec=info.job,
        state=ScoringState.WAITING,
        trigger=trigger,
        cause=event.ref,
        created_at=event.at,
        updated_at=event.at,
    )
    tx.execute(scoring_runs.insert().values(**values_of(run)))
    return run


def _heed(stores: Stores, tx: Connection, infos: list[ScoringJobInfo], event: Event) -> None:
    for info in infos:
        old = info.revision == 1 and event.at < info.declared_at
        if info.project != event.project or old or not any(wants(each, event) for each in info.job.triggers):
            continue
        stores.db.lock(tx, f"scoring {info.project}")
        kind = "on_alert" if event.kind == ALERT_OPENED else "on_new_version"
        wait_for(stores, tx, info, kind, event.ref, {"subject": event.subject})


def _last(info: ScoringJobInfo) -> datetime:
    return info.last_triggered_at or info.declared_at
