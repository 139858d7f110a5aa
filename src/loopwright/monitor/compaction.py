"""Predictions and feedback on their way from the journals into Delta tables, each row exactly once.

A step has three parts: note down where it ends; append the rows up to there, under the step's number as the tables'
application transaction; note down that it is done. Killed between any two, the next pass takes the same step again,
and tables that have its number already are left as they are. Journals are dropped once both readers have passed them.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select

from loopwright.core import SystemClock
from loopwright.monitor import feedback
from loopwright.monitor.cursors import Place, move, place_of, plan
from loopwright.monitor.frames import feedback_frame, prediction_frame
from loopwright.monitor.places import (
    COMPACTOR,
    READER,
    feedback_folder,
    feedback_key,
    prediction_folder,
    predictions_key,
)
from loopwright.monitor.tables import monitored_endpoints
from loopwright.store import Cursor, JournalReader, Stores

if TYPE_CHECKING:
    from loopwright.serve import FeedbackRow, Prediction

BYTES_AT_ONCE = 16 << 20
AFTER = timedelta(minutes=5)
_JOURNALS = ("predictions", "feedback")


def compact(stores: Stores, *, at_once: bool = False) -> int:
    """Move what was folded into windows on into the tables, when enough has gathered; how many rows.

    Enough is 16 MiB of journal, or anything that has waited for five minutes of the machine's time. It runs behind the
    windows and outside their transactions; several processes may call it, and each step is taken by one of them.

    Args:
        at_once: whatever there is.

    Raises:
        Unavailable: the tables cannot be written; the next call goes on from the same place.
        Corrupt: a journal is damaged.
    """
    place = place_of(stores.db, COMPACTOR)
    if place.planned is None and not _plan(stores, place, at_once):
        return 0
    place = place_of(stores.db, COMPACTOR)
    return 0 if place.planned is None else _take(stores, place)


def _plan(stores: Stores, place: Place, at_once: bool) -> bool:
    """Plan a step up to where the windows are, if that is far enough; whether there is one to take."""
    folded, now = place_of(stores.db, READER), SystemClock().now()
    ends = {journal: folded.cursor(journal) for journal in _JOURNALS}
    waiting = sum(_bytes_between(place.cursor(journal), ends[journal]) for journal in _JOURNALS)
    if not waiting:
        return False
    if place.moved_at is None and not at_once:  # the first rows ever: their time begins to run now
        with stores.db.begin() as tx:
            move(stores.db, tx, place, {}, now)
        return False
    if not (at_once or waiting >= BYTES_AT_ONCE or _waited_long(place.moved_at, now)):
        return False
    with stores.db.begin() as tx:
        return plan(stores.db, tx, place, ends, now)


def _waited_long(since: datetime | None, now: datetime) -> bool:
    return since is not None and now - since >= AFTER


def _bytes_between(after: Cursor, until: Cursor) -> int:
    return sum(max(0, end - after.offsets.get(segment, 0)) for segment, end in until.offsets.items())


def _take(stores: Stores, place: Place) -> int:
    """Take the step that was planned."""
    step = (COMPACTOR, place.number)
    rows, labels = _predictions(stores, place), _feedback(stores, place)
    for key, some in rows.items():
        kept = stores.tables.scan(key).collect_schema() if stores.tables.exists(key) else None
        stores.tables.append(key, prediction_frame(some, kept), app_transaction=step, new_columns="add")
    for key, given in labels.items():
        stores.tables.append(key, feedback_frame(given), app_transaction=step)
    ends = {journal: place.end(journal) for journal in _JOURNALS}
    with stores.db.begin() as tx:
        move(stores.db, tx, place, ends, SystemClock().now())
    JournalReader(prediction_folder(stores)).drop_read(ends["predictions"])
    JournalReader(feedback_folder(stores)).drop_read(ends["feedback"])
    return sum(map(len, rows.values())) + sum(map(len, labels.values()))


def _predictions(stores: Stores, place: Place) -> dict[str, list[Prediction]]:
    """The step's predictions, by the key of their table."""
    from loopwright.serve import predictions_between

    owners = _owners(stores)
    found: dict[str, list[Prediction]] = {}
    after, until = place.cursor("predictions"), place.end("predictions")
    for row in predictions_between(prediction_folder(stores), after, until):
        found.setdefault(predictions_key(owners[row.endpoint], row.endpoint), []).append(row)
    return found


def _feedback(stores: Stores, place: Place) -> dict[str, list[FeedbackRow]]:
    """The step's feedback, by the key of its table."""
    found: dict[str, list[FeedbackRow]] = {}
    for record in feedback.between(stores, place.cursor("feedback"), place.end("feedback")):
        found.setdefault(feedback_key(record.project, record.endpoint), []).extend(record.rows)
    return found


def _owners(stores: Stores) -> dict[str, str]:
    """The project of each endpoint; folding has given each one."""
    with stores.db.read() as connection:
        rows = connection.execute(select(monitored_endpoints.c.endpoint, monitored_endpoints.c.project))
        return {row.endpoint: row.project for row in rows}
