"""What one can ask of this room."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select, update

from loopwright.core import Conflict, Invalid, NotFound, Scope, check_name, operation, parse_ref
from loopwright.models import ModelService
from loopwright.monitor import declared, evidence, feedback, lookup, scored
from loopwright.monitor.advancing import Pass
from loopwright.monitor.compaction import compact
from loopwright.monitor.logged import LoggedTables
from loopwright.monitor.model import (
    Alert,
    AlertState,
    ArmEvidence,
    Feedback,
    FeedbackReceipt,
    Monitor,
    MonitorInfo,
    PredictionRecord,
    PredictionSummary,
    WindowReport,
)
from loopwright.monitor.references import References
from loopwright.monitor.scored import ScoredRows
from loopwright.monitor.tables import alerts, monitor_windows
from loopwright.monitor.verdicts import close_alert, report_of
from loopwright.store import Stores

_MAX_PAGE = 1000
_MAX_FEEDBACK = 100_000


class MonitorService:
    """Monitors, their windows and alerts, feedback, and the evidence that rollouts are judged by, of one project."""

    def __init__(self, stores: Stores, scope: Scope, *, models: ModelService) -> None:
        self.stores, self.scope, self.models = stores, scope, models

    @operation("monitors.feedback", permission="monitors:write", effect="write")
    def feedback(self, endpoint: str, rows: list[Feedback]) -> FeedbackReceipt:
        """Send in the truth about predictions. When this returns, it survives kill -9 and loss of power.

        It is joined by the id of the prediction on the next pass of the monitors, days or weeks later as well. The
        same row may be sent again; another value replaces the first.

        Raises:
            Invalid: an id or a time is malformed, or there are more than 100,000 rows; nothing is kept then.
            Unavailable: the disk is full or read-only.
        """
        check_name("endpoint", endpoint)
        if len(rows) > _MAX_FEEDBACK:
            raise Invalid(f"{len(rows)} rows at once", next_step=f"send up to {_MAX_FEEDBACK} at a time")
        return FeedbackReceipt(feedback.write(self.stores, self.scope.project, endpoint, rows))

    @operation("monitors.apply", permission="monitors:write", effect="write")
    def apply(self, monitor: Monitor) -> MonitorInfo:
        """Declare a monitor, or change it; windows that are judged already stay as they are.

        Raises:
            Invalid: a malformed name, or a number out of range.
            Conflict: the endpoint belongs to another project.
        """
        declared.check_monitor(monitor)
        with self.stores.db.begin() as tx:
            self.stores.db.lock(tx, f"monitors {self.scope.project}")
            return declared.save(self.stores, tx, self.scope, monitor)

    @operation("monitors.get", permission="monitors:read")
    def get(self, name: str) -> MonitorInfo:
        """A declared monitor.

        Raises:
            NotFound: there is none of that name.
        """
        with self.stores.db.read() as connection:
            return declared.get(connection, self.scope.project, parse_ref(name, "monitor").name)

    @operation("monitors.list", permission="monitors:read")
    def list(self, limit: int = 100, after: str = "") -> list[MonitorInfo]:
        """Declared monitors by name; `after` is the last name of the page before."""
        with self.stores.db.read() as connection:
            return declared.project_monitors(connection, self.scope.project, min(limit, _MAX_PAGE), after)

    def advance(self, watermark: datetime | None = None) -> Sequence[WindowReport]:
        """Fold what is new in the journals, and judge the windows that are complete; the reports that changed.

        Safe to call at any time, from several processes: each prediction and label is counted once.

        Args:
            watermark: the event time up to which all predictions have been made; by default the workspace's time, or,
                while rows of the past are sent into a workspace on the machine's clock, the newest of their times.

        Raises:
            Corrupt: a journal is damaged.
            Unavailable: the database cannot be written.
        """
        reports = Pass(self.stores, self.scope, self._references_of).run(watermark)
        compact(self.stores)
        return reports

    def note_scored(self, tx: Connection, rows: ScoredRows) -> None:
        """Let the monitors of a scoring job see what a run of it read and answered, in the caller's transaction."""
        scored.note(tx, self.scope.project, rows)

    def compact(self) -> int:
        """Move everything that was folded into the Delta tables now; how many rows. `advance` does it now and then.

        Raises:
            Corrupt: a journal is damaged.
            Unavailable: the tables cannot be written.
        """
        return compact(self.stores, at_once=True)

    @operation("monitors.windows", permission="monitors:read")
    def windows(
        self, endpoint: str = "", monitor: str = "", limit: int = 100, before: datetime | None = None
    ) -> Sequence[WindowReport]:
        """Windows that were judged, newest first, of one endpoint, one monitor, or all.

        Args:
            before: the start of the last window of the page before.
        """
        table = monitor_windows
        query = select(table.c.report).where(table.c.project == self.scope.project, table.c.report.is_not(None))
        if endpoint:
            query = query.where(table.c.endpoint == parse_ref(endpoint, "endpoint").name)
        if monitor:
            query = query.where(table.c.monitor == parse_ref(monitor, "monitor").name)
        if before is not None:
            query = query.where(table.c.start < before)
        query = query.order_by(table.c.start.desc(), table.c.monitor).limit(min(limit, _MAX_PAGE))
        with self.stores.db.read() as connection:
            return [report_of(report) for report in connection.execute(query).scalars()]

    @operation("monitors.alerts", permission="monitors:read")
    def alerts(self, open_only: bool = False, endpoint: str = "", limit: int = 100, after: str = "") -> Sequence[Alert]:
        """Alerts, newest first; `after` is the last id of the page before."""
        query = select(alerts).where(alerts.c.project == self.scope.project)
        if open_only:
            query = query.where(alerts.c.state == AlertState.OPEN)
        if endpoint:
            query = query.where(alerts.c.endpoint == parse_ref(endpoint, "endpoint").name)
        if after:
            query = query.where(alerts.c.id < after.removeprefix("alert:"))
        with self.stores.db.read() as connection:
            rows = connection.execute(query.order_by(alerts.c.id.desc()).limit(min(limit, _MAX_PAGE)))
            return [_alert(row) for row in rows]

    @operation("monitors.alert", permission="monitors:read")
    def alert(self, id: str) -> Alert:
        """One alert.

        Raises:
            NotFound: there is no such alert.
        """
        with self.stores.db.read() as connection:
            return _alert(self._alert_row(connection.execute(self._one_alert(id)).first(), id))

    @operation("monitors.assign_alert", permission="monitors:write", effect="write")
    def assign_alert(self, id: str, owner: str) -> Alert:
        """Give an open alert to somebody.

        Raises:
            NotFound: there is no such alert.
            Conflict: it is closed.
        """
        with self.stores.db.begin() as tx:
            row = self._open_row(tx.execute(self._one_alert(id)).first(), id)
            tx.execute(update(alerts).where(alerts.c.id == row.id).values(owner=owner))
            self.stores.events.append(
                tx, "alert.assigned", f"alert:{row.id}", self.scope, {"owner": owner, "monitor": row.monitor}
            )
            return msgspec.structs.replace(_alert(row), owner=owner)

    @operation("monitors.close_alert", permission="monitors:write", effect="write")
    def close_alert(self, id: str, reason: str) -> Alert:
        """Close an alert by hand. It opens again if the windows that follow are bad.

        Raises:
            NotFound: there is no such alert.
            Conflict: it is closed already.
        """
        with self.stores.db.begin() as tx:
            row = self._open_row(tx.execute(self._one_alert(id)).first(), id)
            close_alert(self.stores, tx, self.scope, row, reason, {"closed_by": self.scope.actor})
            return _alert(self._alert_row(tx.execute(self._one_alert(id)).first(), id))

    @operation("monitors.evidence", permission="monitors:read")
    def evidence(
        self,
        endpoint: str,
        since: datetime,
        models: Sequence[str],
        span_s: float = 3600.0,
        cuts: Sequence[datetime] = (),
    ) -> Sequence[ArmEvidence]:
        """What each of some model versions showed on an endpoint since a moment: sums per span of event time.

        Args:
            since: the beginning, to a quarter of an hour.
            models: refs of versions; one piece of evidence for each, in this order.
            span_s: the spans within which versions should be compared.
            cuts: moments at which a span must end, such as those at which shares of traffic changed.

        Raises:
            Invalid: the span is shorter than a second, or a ref names no version.
        """
        if span_s < 1:
            raise Invalid(f"a span of {span_s:g} s", where="span_s", next_step="use 3600")
        refs = [str(parse_ref(model, "model")) for model in models]
        name = parse_ref(endpoint, "endpoint").name
        with self.stores.db.read() as connection:
            return evidence.gather(connection, self.scope.project, name, since, refs, span_s, cuts)

    @operation("monitors.prediction", permission="monitors:read")
    def find_prediction(self, id: str) -> PredictionRecord:
        """One prediction with its features, its answer, and the truth if it came.

        Raises:
            NotFound: no such prediction was logged.
        """
        return lookup.find(self.stores, self.scope.project, id)

    @operation("monitors.predictions", permission="monitors:read")
    def predictions(self, endpoint: str, limit: int = 100, after: str = "") -> Sequence[PredictionSummary]:
        """An endpoint's predictions, newest first; `after` is the last id of the page before."""
        name = parse_ref(endpoint, "endpoint").name
        return lookup.of_endpoint(self.stores, self.scope.project, name, min(limit, _MAX_PAGE), after)

    def logged(self, endpoint: str) -> LoggedTables:
        """What is kept of an endpoint's predictions and feedback, as tables for any reader of Delta.

        Raises:
            NotFound: nothing of it has reached a table yet.
        """
        return LoggedTables(self.stores, self.scope.project, parse_ref(endpoint, "endpoint").name)

    def _references_of(self, project: str) -> References:
        if project == self.scope.project:
            return References(self.models)
        return References(ModelService(self.stores, Scope(project, self.scope.actor)))

    def _one_alert(self, ref: str) -> Any:
        identifier = parse_ref(ref, "alert").name
        return select(alerts).where(alerts.c.id == identifier, alerts.c.project == self.scope.project)

    def _alert_row(self, row: Row[Any] | None, ref: str) -> Row[Any]:
        if row is None:
            raise NotFound(f"there is no alert {ref!r}", next_step="loopwright alerts lists them")
        return row

    def _open_row(self, row: Row[Any] | None, ref: str) -> Row[Any]:
        found = self._alert_row(row, ref)
        if found.state != AlertState.OPEN:
            raise Conflict(f"the alert {ref!r} is closed: {found.closed_reason}")
        return found


def _alert(row: Row[Any]) -> Alert:
    return Alert(**{**row._mapping, "state": AlertState(row.state)})
