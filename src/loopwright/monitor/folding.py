"""Fold new predictions into what is kept of them: the rows that labels will need, slots, windows.

Everything here happens in the caller's transaction, together with the move of the reader's cursor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, and_, bindparam, or_, select

from loopwright.monitor.batches import SLOT_US, Group, microseconds, moment
from loopwright.monitor.model import Monitor, Verdict
from loopwright.monitor.tables import monitor_windows, prediction_slots, predictions
from loopwright.monitor.windows import VariantState, WindowState
from loopwright.store import Database

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from loopwright.monitor.references import References

OPEN, COUNTED, JUDGED = 0, 1, 2
SUMS = ("rows", "errors", "latency_n", "latency_ms", "latency_ms_squared", "labels", "loss", "loss_squared")

SlotKey = tuple[str, int, str]


def keep_rows(db: Database, tx: Connection, project: str, groups: Iterable[Group]) -> None:
    """Note down what a label that comes later needs of each prediction."""
    rows = [
        {
            "new_id": row.id,
            "new_project": project,
            "new_endpoint": row.endpoint,
            "new_model": row.model,
            "new_shadow": row.shadow,
            "new_failed": failed,
            "new_event_time": moment(row.event_time),
            "new_outputs": row.outputs,
        }
        for one in groups
        for row, failed in zip(one.rows, one.failed.tolist(), strict=True)
    ]
    if rows:
        values: dict[str, Any] = {name.removeprefix("new_"): bindparam(name) for name in rows[0]}
        tx.execute(db.upsert(predictions, values, ["id"]), rows)


def slot_sums(groups: Iterable[Group]) -> dict[SlotKey, dict[str, float]]:
    """The sums of new predictions, by endpoint, quarter of an hour (its start in microseconds) and version."""
    import numpy as np

    found: dict[SlotKey, dict[str, float]] = {}
    for one in groups:
        starts, places = np.unique(one.event_us // SLOT_US * SLOT_US, return_inverse=True)
        errors = np.bincount(places, weights=one.failed)
        rows = np.bincount(places)
        latency = np.bincount(places, weights=one.latency_ms)
        squared = np.bincount(places, weights=np.square(one.latency_ms))
        for place, start in enumerate(starts.tolist()):
            add_to(found, (one.endpoint, start, one.model), rows=int(rows[place]), errors=int(errors[place]),
                   latency_n=int(rows[place]), latency_ms=float(latency[place]),
                   latency_ms_squared=float(squared[place]))  # fmt: skip
    return found


def add_to(sums: dict[SlotKey, dict[str, float]], key: SlotKey, **amounts: float) -> None:
    """Add amounts to the sums of one slot."""
    slot = sums.setdefault(key, dict.fromkeys(SUMS, 0))
    for name, amount in amounts.items():
        slot[name] += amount


def add_slots(db: Database, tx: Connection, project: str, sums: Mapping[SlotKey, Mapping[str, float]]) -> None:
    """Add sums to the slots in the database. One writer at a time: the caller holds the reader's lock."""
    if not sums:
        return
    merged = {key: dict(amounts) for key, amounts in sums.items()}
    for row in tx.execute(_slots_between(project, merged)):
        key = (row.endpoint, microseconds(row.start), row.model)
        if key in merged:
            add_to(merged, key, **{name: getattr(row, name) for name in SUMS})
    rows = [
        {"new_project": project, "new_endpoint": endpoint, "new_start": moment(start), "new_model": model}
        | {f"new_{name}": amount for name, amount in amounts.items()}
        for (endpoint, start, model), amounts in merged.items()
    ]
    names = ["project", "endpoint", "start", "model"]
    values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in (*names, *SUMS)}
    tx.execute(db.upsert(prediction_slots, values, names, SUMS), rows)  # one statement, compiled once, for all rows


def _slots_between(project: str, sums: Mapping[SlotKey, Any]) -> Any:
    """The slots that exist already, by one range of starts per endpoint."""
    table, ranges = prediction_slots, dict[str, list[int]]()
    for endpoint, start, _model in sums:
        ranges.setdefault(endpoint, []).append(start)
    parts = [
        and_(table.c.endpoint == endpoint, table.c.start >= moment(min(starts)), table.c.start <= moment(max(starts)))
        for endpoint, starts in ranges.items()
    ]
    return select(table).where(table.c.project == project, or_(*parts))


class Windows:
    """The windows that one transaction changes: each is read once and written once."""

    def __init__(self, db: Database, tx: Connection, project: str, monitors: Sequence[Monitor]) -> None:
        self._db, self._tx, self._project = db, tx, project
        self._monitors: dict[str, list[Monitor]] = {}
        for monitor in monitors:
            self._monitors.setdefault(monitor.endpoint, []).append(monitor)
        self._held: dict[tuple[str, int], _Held] = {}

    def fold(self, group: Group, references: References) -> None:
        """Count a group's predictions into the windows of each monitor of its endpoint."""
        import numpy as np

        for monitor in self._monitors.get(group.endpoint, ()):
            starts = group.event_us // width_us(monitor) * width_us(monitor)
            for start in np.unique(starts).tolist():
                held = self.of(monitor, start)
                chosen = np.flatnonzero(starts == start)
                if held.stage > OPEN:
                    held.late_rows += len(chosen)
                    continue
                variant = held.state.variants.get(group.model)
                if variant is None:
                    reference = references.of(group.model)
                    variant = VariantState.like(reference, monitor.drift, shadow=group.shadow)
                    held.state.variants[group.model] = variant
                variant.fold(group, chosen)

    def score(self, endpoint: str, model: str, event_us: NDArray[np.int64], parts: Sequence[ScorePart]) -> None:
        """Count labelled rows (or take corrected ones out) in the windows of each monitor of the endpoint."""
        import numpy as np

        for monitor in self._monitors.get(endpoint, ()):
            starts = event_us // width_us(monitor) * width_us(monitor)
            for start in np.unique(starts).tolist():
                held = self.of(monitor, start)
                chosen = starts == start
                variant = held.state.variants.get(model)
                if held.stage == JUDGED or variant is None or variant.scores is None:
                    held.late_labels += int(chosen.sum())
                    continue
                for truth, output, times in parts:
                    known = chosen & ~np.isnan(truth)
                    if known.any():
                        variant.scores.update(truth[known], output[known], times=times)

    def of(self, monitor: Monitor, start: int) -> _Held:
        """The window of a monitor that begins at `start`; a new one if there is none."""
        key = (monitor.name, start)
        if key not in self._held:
            self._held[key] = self._read(monitor, start)
        return self._held[key]

    def write(self) -> None:
        """Write back what was changed."""
        rows = [held.row(self._project) for held in self._held.values()]
        names = ["project", "monitor", "start"]
        for begin in range(0, len(rows), 100):
            some = rows[begin : begin + 100]
            changed = ["late_rows", "late_labels", "state"]
            self._tx.execute(self._db.upsert(monitor_windows, some, names, changed))
        self._held.clear()

    def _read(self, monitor: Monitor, start: int) -> _Held:
        table = monitor_windows
        query = select(table.c.stage, table.c.late_rows, table.c.late_labels, table.c.state).where(
            table.c.project == self._project, table.c.monitor == monitor.name, table.c.start == moment(start)
        )
        row = self._tx.execute(query).first()
        if row is None:
            return _Held(monitor, start, OPEN, WindowState(), 0, 0)
        state = WindowState.from_bytes(row.state) if row.state is not None else WindowState()
        return _Held(monitor, start, row.stage, state, row.late_rows, row.late_labels)


ScorePart = tuple[Any, Any, int]
"""Truths and outputs of the same rows (arrays; NaN for a truth that is to be left out), and how often they count."""


class _Held:
    """One window while its transaction lasts."""

    def __init__(
        self, monitor: Monitor, start: int, stage: int, state: WindowState, late_rows: int, late_labels: int
    ) -> None:
        self.monitor, self.start, self.stage, self.state = monitor, start, stage, state
        self.late_rows, self.late_labels = late_rows, late_labels

    def row(self, project: str) -> dict[str, Any]:
        return {
            "project": project,
            "monitor": self.monitor.name,
            "start": moment(self.start),
            "end": moment(self.start + width_us(self.monitor)),
            "endpoint": self.monitor.endpoint,
            "stage": self.stage,
            "model": self.state.main,
            "drift": Verdict.NOT_JUDGED,
            "performance": Verdict.NOT_JUDGED,
            "late_rows": self.late_rows,
            "late_labels": self.late_labels,
            "state": None if self.stage == JUDGED else self.state.to_bytes(),
            "report": None,
        }


def width_us(monitor: Monitor) -> int:
    """The width of a monitor's windows in microseconds."""
    return round(monitor.window_s * 1_000_000)
