"""Judge the windows that are complete, and open and close alerts, in the caller's transaction."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select, update

from loopwright.core import Scope, new_id
from loopwright.monitor.alerting import About, Change, Judgement, Step, evidence_of, next_step, summary_of
from loopwright.monitor.declared import project_monitors
from loopwright.monitor.folding import COUNTED, JUDGED, OPEN
from loopwright.monitor.judging import draft_report, judge_drift, judge_performance, metric_of, report_variant
from loopwright.monitor.model import AlertState, Monitor, Verdict, WindowReport
from loopwright.monitor.references import References
from loopwright.monitor.tables import alerts, monitor_windows
from loopwright.monitor.watermarks import WatermarkOf
from loopwright.monitor.windows import WindowState
from loopwright.store import Stores


def any_due(connection: Connection, project: str, watermark_of: WatermarkOf) -> bool:
    """Whether a window can be judged at the watermark of its monitor."""
    monitors = (info.monitor for info in project_monitors(connection, project))
    return any(_due(connection, project, monitor, watermark_of(monitor), limit=1) for monitor in monitors)


def judge_due(
    stores: Stores, tx: Connection, scope: Scope, watermark_of: WatermarkOf, references: References
) -> list[WindowReport]:
    """Judge what can be judged, in the order of the windows; the reports that are new or changed."""
    reports = []
    for info in project_monitors(tx, scope.project):
        judge = _Judge(stores, tx, scope, info.monitor, references)
        watermark = watermark_of(info.monitor)
        reports += [judge.window(row, watermark) for row in _due(tx, scope.project, info.monitor, watermark)]
    return reports


def _due(
    connection: Connection, project: str, monitor: Monitor, watermark: datetime, limit: int = 1000
) -> list[Row[Any]]:
    """The windows that can be judged further, oldest first."""
    table = monitor_windows
    counted_by = watermark - timedelta(seconds=monitor.lateness_s)
    labelled_by = _labelled_by(monitor, watermark)
    query = select(table).where(
        table.c.project == project,
        table.c.monitor == monitor.name,
        table.c.stage < JUDGED,
        table.c.end <= counted_by,
        (table.c.stage == OPEN) | (table.c.end <= labelled_by),
    )
    return list(connection.execute(query.order_by(table.c.start).limit(limit)))


def _labelled_by(monitor: Monitor, watermark: datetime) -> datetime:
    delay = 0.0 if monitor.performance is None else monitor.label_delay_s
    return watermark - timedelta(seconds=monitor.lateness_s + delay)


class _Judge:
    """Judges the windows of one monitor."""

    def __init__(self, stores: Stores, tx: Connection, scope: Scope, monitor: Monitor, references: References) -> None:
        self._stores, self._tx, self._scope = stores, tx, scope
        self._monitor, self._references = monitor, references

    def window(self, row: Row[Any], watermark: datetime) -> WindowReport:
        """Judge one window as far as it can be; its report is kept with it."""
        state = WindowState.from_bytes(row.state)
        report = self._drift(row, state) if row.stage == OPEN else report_of(row.report)
        done = row.end <= _labelled_by(self._monitor, watermark)
        if done:
            report = self._performance(row, state, report)
        self._save(row, report, done)
        if row.stage == OPEN:
            self._settle(About.DRIFT, report)
        if done:
            self._settle(About.PERFORMANCE, report)
        return report

    def _drift(self, row: Row[Any], state: WindowState) -> WindowReport:
        report = draft_report(self._monitor, row.start, row.end, state, row.late_rows)
        reference = self._references.of(report.model)
        judged, features = judge_drift(self._monitor.drift, state.variants.get(report.model), reference)
        return msgspec.structs.replace(report, drift_verdict=judged.verdict, drift_reason=judged.reason, drift=features)

    def _performance(self, row: Row[Any], state: WindowState, report: WindowReport) -> WindowReport:
        reference = self._references.of(report.model)
        variant = state.variants.get(report.model)
        policy = self._monitor.performance
        judged, metrics = judge_performance(policy, variant, reference)
        return msgspec.structs.replace(
            report,
            performance_verdict=judged.verdict,
            performance_reason=judged.reason,
            metric="" if policy is None else metric_of(policy, reference),
            performance=metrics,
            labels=state.labels,
            late_rows=row.late_rows,
            late_labels=row.late_labels,
            by_variant=[report_variant(model, one) for model, one in sorted(state.variants.items())],
        )

    def _save(self, row: Row[Any], report: WindowReport, done: bool) -> None:
        table = monitor_windows
        values: dict[str, Any] = {
            "stage": JUDGED if done else COUNTED,
            "model": report.model,
            "drift": report.drift_verdict,
            "performance": report.performance_verdict,
            "report": msgspec.to_builtins(report),
        }
        if done:
            values["state"] = None
        key = (table.c.project == row.project, table.c.monitor == row.monitor, table.c.start == row.start)
        self._tx.execute(update(table).where(*key).values(values))

    def _settle(self, about: About, report: WindowReport) -> None:
        """Open or close the monitor's alert about one question, now that one more window was judged."""
        policy = self._monitor.drift if about is About.DRIFT else self._monitor.performance
        if policy is None:
            return
        held = self._open_alert(about)
        judgements = self._newest(about, policy.consecutive)
        step = next_step(judgements, policy.consecutive, None if held is None else held.model)
        if step.change is Change.CLOSE and held is not None:
            self._close(held, report, step)
            step = next_step(judgements, policy.consecutive, None)
        if step.change is Change.OPEN:
            self._open(about, report, step)

    def _open_alert(self, about: About) -> Row[Any] | None:
        table = alerts
        query = select(table).where(
            table.c.project == self._scope.project,
            table.c.monitor == self._monitor.name,
            table.c.about == about,
            table.c.state == AlertState.OPEN,
        )
        return self._tx.execute(query).first()

    def _newest(self, about: About, limit: int) -> list[Judgement]:
        table = monitor_windows
        verdict = table.c.drift if about is About.DRIFT else table.c.performance
        query = (
            select(table.c.start, table.c.model, verdict.label("verdict"))
            .where(
                table.c.project == self._scope.project,
                table.c.monitor == self._monitor.name,
                verdict.in_([Verdict.FINE, Verdict.BAD]),
            )
            .order_by(table.c.start.desc())
            .limit(limit)
        )
        return [Judgement(row.start, row.model, Verdict(row.verdict)) for row in self._tx.execute(query)]

    def _open(self, about: About, report: WindowReport, step: Step) -> None:
        reference = self._references.of(report.model)
        identifier, summary = new_id(), summary_of(about, report)
        evidence = evidence_of(about, self._monitor, report, reference)
        told = {
            "monitor": self._monitor.name,
            "about": about,
            "endpoint": self._monitor.endpoint,
            "model": report.model,
            "owner": self._monitor.owner,
            "since": step.since,
            "summary": summary,
            **evidence,
        }
        event = self._stores.events.append(self._tx, "alert.opened", f"alert:{identifier}", self._scope, told)
        row = {
            "id": identifier,
            "project": self._scope.project,
            "monitor": self._monitor.name,
            "endpoint": self._monitor.endpoint,
            "model": report.model,
            "about": about,
            "state": AlertState.OPEN,
            "summary": summary,
            "since": step.since,
            "opened_at": event.at,
            "closed_at": None,
            "closed_reason": "",
            "owner": self._monitor.owner,
            "evidence": evidence,
            "event": event.id,
        }
        self._tx.execute(alerts.insert().values(row))

    def _close(self, held: Row[Any], report: WindowReport, step: Step) -> None:
        close_alert(self._stores, self._tx, self._scope, held, step.reason, {"window_start": report.start})


def report_of(kept: Any) -> WindowReport:
    """A report as it was kept, with the metric that was judged first."""
    report = msgspec.convert(kept, WindowReport)
    ordered = dict(sorted(report.performance.items(), key=lambda item: item[0] != report.metric))
    return msgspec.structs.replace(report, performance=ordered)


def close_alert(
    stores: Stores, tx: Connection, scope: Scope, held: Row[Any], reason: str, evidence: dict[str, Any]
) -> None:
    """Close an open alert, with its event; what led to it is the event that opened it."""
    told = {
        "monitor": held.monitor,
        "about": held.about,
        "endpoint": held.endpoint,
        "model": held.model,
        "reason": reason,
        "since": held.since,
        **evidence,
    }
    event = stores.events.append(tx, "alert.closed", f"alert:{held.id}", scope, told, cause=f"event:{held.event}")
    values = {"state": AlertState.CLOSED, "closed_at": event.at, "closed_reason": reason}
    tx.execute(update(alerts).where(alerts.c.id == held.id, alerts.c.state == AlertState.OPEN).values(values))
