"""One pass of the monitors: read what is new, fold it, judge the windows that are complete.

Predictions and feedback are read from their journals, and everything that follows from a batch is written in the one
transaction that moves the cursors: killed at any line, the next pass starts from the same place and counts nothing
twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, select, update

from loopwright.core import Scope, SystemClock
from loopwright.monitor import feedback
from loopwright.monitor.batches import Group, group, microseconds
from loopwright.monitor.cursors import Place, move, place_of
from loopwright.monitor.declared import project_monitors
from loopwright.monitor.folding import SlotKey, Windows, add_slots, keep_rows, slot_sums
from loopwright.monitor.joining import join
from loopwright.monitor.model import WindowReport
from loopwright.monitor.places import READER, prediction_folder
from loopwright.monitor.references import References
from loopwright.monitor.tables import monitored_endpoints, predictions
from loopwright.monitor.verdicts import any_due, judge_due
from loopwright.monitor.watermarks import note_traffic, watermarks
from loopwright.serve import FeedbackRecord
from loopwright.store import Cursor, Stores

JOIN_HORIZON = timedelta(days=180)  # of the machine's time, since a prediction was made
_PREDICTIONS_AT_ONCE = 10_000
_FEEDBACK_AT_ONCE = 10
_DROPPED_AT_ONCE = 5_000

ReferencesOf = Callable[[str], References]


class Pass:
    """One pass over what is new. Made anew for each."""

    def __init__(self, stores: Stores, scope: Scope, references_of: ReferencesOf) -> None:
        """Args:
        references_of: the references of a project's model versions.
        """
        self._stores, self._scope, self._references_of = stores, scope, references_of

    def run(self, watermark: datetime | None) -> list[WindowReport]:
        """Fold everything that is in the journals, and judge what is complete (see `watermarks`).

        Raises:
            Corrupt: a journal is damaged.
            Unavailable: the database cannot be written.
        """
        more = True
        while more:
            more = self._fold_next()
        oldest = id_at(SystemClock().now() - JOIN_HORIZON)
        if not self._anything_due(watermark, oldest):
            return []
        project = self._scope.project
        with self._stores.db.begin() as tx:
            self._stores.db.lock(tx, f"monitor {READER}")
            watermark_of = watermarks(self._stores, tx, project, watermark)
            reports = judge_due(self._stores, tx, self._scope, watermark_of, self._references_of(project))
            _drop_old(tx, oldest)
        return reports

    def _anything_due(self, watermark: datetime | None, oldest: str) -> bool:
        project = self._scope.project
        with self._stores.db.read() as connection:
            watermark_of = watermarks(self._stores, connection, project, watermark)
            return any_due(connection, project, watermark_of) or _any_old(connection, oldest)

    def _fold_next(self) -> bool:
        """Fold one batch of each journal; whether there may be more.

        Feedback is read first: a prediction whose feedback we hold was in its journal before that, so it is either
        folded already or among those read now. While predictions are behind, feedback waits.
        """
        place = place_of(self._stores.db, READER)
        labels, after_labels = feedback.read(self._stores, place.cursor("feedback"), _FEEDBACK_AT_ONCE)
        groups, count, after_rows = self._read_predictions(place.cursor("predictions"))
        behind = count >= _PREDICTIONS_AT_ONCE
        if behind:
            labels, after_labels = [], place.cursor("feedback")
        if not count and not labels:
            return False
        self._fold(place, groups, labels, {"predictions": after_rows, "feedback": after_labels})
        return behind or len(labels) == _FEEDBACK_AT_ONCE

    def _read_predictions(self, cursor: Cursor) -> tuple[list[Group], int, Cursor]:
        from loopwright.serve import read_predictions

        rows, after = read_predictions(prediction_folder(self._stores), cursor, _PREDICTIONS_AT_ONCE)
        return group(rows), len(rows), after

    def _fold(
        self, place: Place, groups: list[Group], labels: list[FeedbackRecord], cursors: Mapping[str, Cursor]
    ) -> None:
        db = self._stores.db
        with db.begin() as tx:
            db.lock(tx, f"monitor {READER}")
            if not move(db, tx, place, cursors, self._stores.clock.now()):
                return
            owners = claim(tx, {one.endpoint for one in groups}, self._scope.project)
            projects = {*owners.values(), *(record.project for record in labels)}
            for project in sorted(projects):
                mine = [one for one in groups if owners[one.endpoint] == project]
                theirs = [record for record in labels if record.project == project]
                self._fold_project(tx, project, mine, theirs)

    def _fold_project(
        self, tx: Connection, project: str, groups: Sequence[Group], labels: Sequence[FeedbackRecord]
    ) -> None:
        db, references = self._stores.db, self._references_of(project)
        scales = _scales(tx, project, groups, references)
        windows = Windows(db, tx, project, [info.monitor for info in project_monitors(tx, project)])
        sums: dict[SlotKey, dict[str, float]] = slot_sums(groups)
        keep_rows(db, tx, project, groups)
        note_traffic(tx, groups)
        for one in groups:
            windows.fold(one, references)
        if labels:
            rows = [row for record in labels for row in record.rows]
            join(tx, project, rows, references, scales, sums, windows)
        add_slots(db, tx, project, sums)
        windows.write()


def claim(tx: Connection, endpoints: set[str], project: str) -> dict[str, str]:
    """The project of each endpoint. One that nobody has asked for yet becomes `project`'s."""
    table = monitored_endpoints
    rows = tx.execute(select(table.c.endpoint, table.c.project).where(table.c.endpoint.in_(endpoints)))
    owners = {row.endpoint: row.project for row in rows}
    fresh = [{"endpoint": name, "project": project, "loss_scale": None} for name in sorted(endpoints - owners.keys())]
    if fresh:
        tx.execute(table.insert(), fresh)
    return owners | {row["endpoint"]: project for row in fresh}


def _scales(tx: Connection, project: str, groups: Sequence[Group], references: References) -> dict[str, float]:
    """Per endpoint of a regression, the error that counts as a total loss: how far its first version's answers span."""
    table = monitored_endpoints
    rows = tx.execute(select(table.c.endpoint, table.c.loss_scale).where(table.c.project == project))
    scales = {row.endpoint: row.loss_scale for row in rows}
    for one in groups:
        spread = references.of(one.model).spread
        if scales.get(one.endpoint) is None and spread is not None:
            scales[one.endpoint] = spread
            tx.execute(update(table).where(table.c.endpoint == one.endpoint).values(loss_scale=spread))
    return {endpoint: scale for endpoint, scale in scales.items() if scale is not None}


def id_at(at: datetime) -> str:
    """The least id that can have been minted at a time: ids begin with their milliseconds (RFC 9562)."""
    return f"{microseconds(at) // 1000:012x}" + "0" * 20


def _any_old(connection: Connection, oldest: str) -> bool:
    return connection.execute(select(predictions.c.id).where(predictions.c.id < oldest).limit(1)).first() is not None


def _drop_old(tx: Connection, oldest: str) -> None:
    """Forget predictions that no label will be joined to any more, some at a time."""
    table = predictions
    old = select(table.c.id).where(table.c.id < oldest).order_by(table.c.id).limit(_DROPPED_AT_ONCE)
    tx.execute(delete(table).where(table.c.id.in_(old)))
