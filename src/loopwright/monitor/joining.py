"""Join labels to the predictions that they are about, in the caller's transaction.

A label that comes again with another value replaces the first: its loss is taken out of every sum and put in anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import Connection, Row, Select, bindparam, select, update

from loopwright.monitor.batches import SLOT_US, microseconds, moment
from loopwright.monitor.folding import SlotKey, Windows, add_to
from loopwright.monitor.references import Reference, References, score_of, truth_of
from loopwright.monitor.tables import predictions
from loopwright.serve import FeedbackRow
from loopwright.stats import losses

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_IDS_PER_QUERY = 500
_NEEDED = ("id", "project", "endpoint", "model", "failed", "event_time", "outputs", "label")
LossScale = Mapping[str, float]


class Joined(msgspec.Struct, frozen=True):
    """How many labels found their prediction, and how many did not (it was not logged, or is past the horizon)."""

    matched: int
    unmatched: int


def join(
    tx: Connection,
    project: str,
    rows: Sequence[FeedbackRow],
    references: References,
    scales: LossScale,
    sums: dict[SlotKey, dict[str, float]],
    windows: Windows,
) -> Joined:
    """Join labels to predictions: the label on the prediction, its loss into the slots, its scores into the windows.

    Args:
        tx: the caller's transaction.
        project: whose predictions they are.
        rows: labels in the order of their arrival; the last one of a prediction counts.
        references: of the model versions.
        scales: per endpoint, the error of a regression that counts as a total loss.
        sums: the slots' sums of this transaction; losses are added to them.
        windows: the windows of this transaction.
    """
    newest = {row.prediction_id: row for row in rows}
    found = _predictions(tx, project, list(newest))
    _save(tx, [newest[row.id] for row in found])
    for (endpoint, model), some in _by_version(found).items():
        scale = scales.get(endpoint)
        _score(endpoint, model, some, newest, references.of(model), scale, sums, windows)
    return Joined(len(found), len(newest) - len(found))


def _predictions(tx: Connection, project: str, ids: Sequence[str]) -> list[Row[Any]]:
    found: list[Row[Any]] = []
    for start in range(0, len(ids), _IDS_PER_QUERY):
        some = ids[start : start + _IDS_PER_QUERY]
        found += [row for row in tx.execute(by_id(some)) if row.project == project]
    return found


def by_id(ids: Sequence[str]) -> Select[Any]:
    """What a label needs of predictions.

    The project is left to the caller: asked for here, SQLite reads all that the project has, by an index on it.
    """
    return select(*(predictions.c[name] for name in _NEEDED)).where(predictions.c.id.in_(ids))


def _save(tx: Connection, rows: Iterable[FeedbackRow]) -> None:
    values = [{"key": row.prediction_id, "label": row.value, "labelled_at": moment(row.at)} for row in rows]
    if values:
        tx.execute(update(predictions).where(predictions.c.id == bindparam("key")), values)


def _by_version(rows: Iterable[Row[Any]]) -> dict[tuple[str, str], list[Row[Any]]]:
    found: dict[tuple[str, str], list[Row[Any]]] = {}
    for row in rows:
        if not row.failed:
            found.setdefault((row.endpoint, row.model), []).append(row)
    return found


def _score(
    endpoint: str,
    model: str,
    rows: list[Row[Any]],
    newest: Mapping[str, FeedbackRow],
    reference: Reference,
    scale: float | None,
    sums: dict[SlotKey, dict[str, float]],
    windows: Windows,
) -> None:
    import numpy as np

    output = score_of(reference, [row.outputs for row in rows])
    if output is None:
        return
    event_us = np.array([microseconds(row.event_time) for row in rows], dtype=np.int64)
    answered = ~np.isnan(output.reshape(len(rows), -1)).any(axis=1)
    after = np.where(answered, truth_of(reference, [newest[row.id].value for row in rows]), np.nan)
    before = np.where(answered, truth_of(reference, [row.label for row in rows]), np.nan)
    same = after == before
    parts = [(np.where(same, np.nan, before), output, -1), (np.where(same, np.nan, after), output, 1)]
    for truth, answers, times in parts:
        _add_losses(sums, endpoint, model, event_us, _losses(reference, truth, answers, scale), times)
    windows.score(endpoint, model, event_us, parts)


def _losses(
    reference: Reference, truth: NDArray[np.float64], output: NDArray[np.float64], scale: float | None
) -> NDArray[np.float64]:
    """The loss of each row, in [0, 1]; NaN where the truth is."""
    import numpy as np

    known = ~np.isnan(truth)
    found = np.full(len(truth), np.nan)
    if known.any():
        wanted = scale or reference.spread or 1.0
        found[known] = losses(
            reference.task, truth[known], output[known], scale=wanted if reference.task == "regression" else None
        )
    return found


def _add_losses(
    sums: dict[SlotKey, dict[str, float]],
    endpoint: str,
    model: str,
    event_us: NDArray[np.int64],
    loss: NDArray[np.float64],
    times: int,
) -> None:
    import numpy as np

    known = ~np.isnan(loss)
    if not known.any():
        return
    starts, places = np.unique(event_us[known] // SLOT_US * SLOT_US, return_inverse=True)
    counts = np.bincount(places)
    total = np.bincount(places, weights=loss[known])
    squared = np.bincount(places, weights=np.square(loss[known]))
    for place, start in enumerate(starts.tolist()):
        add_to(sums, (endpoint, start, model), labels=times * int(counts[place]),
               loss=times * float(total[place]), loss_squared=times * float(squared[place]))  # fmt: skip
