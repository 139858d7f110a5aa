"""Deliveries: what a client's spool recorded arrives exactly once, by its position in the spool.

A spool is a sequence of segments; positions count within one. The stored position of a segment moves in the same
transaction that stores what came before it, so a delivery that is repeated, torn or overlaps another is applied for
exactly the part that is new.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import msgspec
import numpy as np
from sqlalchemy import Connection, delete, select, update

from loopwright.core import Conflict, Invalid, LoopwrightError
from loopwright.store import Database
from loopwright.track.batches import Batch, check_texts, write_batches
from loopwright.track.columns import Columns, Ints, columns_of
from loopwright.track.tables import run_deliveries
from loopwright.track.values import check_key

_MAX_SPOOL = 64
Texts: TypeAlias = Mapping[str, Mapping[str, str]]


class Recorded(msgspec.Struct, frozen=True, eq=False):
    """Points of one metric of one run in the order in which they were recorded.

    `positions`, where given, are those of the records in the segment, rising: with them, the part of a delivery that
    arrived before is left out. Without them all points are stored again, which changes nothing, for a point is stored
    once; it only costs time.
    """

    columns: Columns
    positions: Ints | None = None


class Delivery(msgspec.Struct, frozen=True, eq=False):
    """What one segment of a spool holds from the position `start` to before `end`, by run id.

    Params and tags are those that the part up to `end` comes to: the last value of each tag.
    """

    spool: str
    segment: int
    start: int
    end: int
    points: Mapping[str, Mapping[str, Columns | Recorded]] = {}
    params: Texts = {}
    tags: Texts = {}


class Receipt(msgspec.Struct, frozen=True):
    """Where a segment stands after a delivery, whether it brought anything new, and what was refused for good.

    `refused` says by run id why nothing of that run was stored: it is gone or deleted, or a param has another value
    already. Repeating the delivery would change nothing.
    """

    position: int
    applied: bool
    refused: Mapping[str, LoopwrightError] = {}


def deliver(database: Database, tx: Connection, project: str, delivery: Delivery) -> Receipt:
    """Store what is new in a delivery and move the segment's position to its end, in a transaction of the caller's.

    Call it once in a transaction.

    Raises:
        Conflict: the delivery begins beyond the stored position, so that something before it is missing.
        Invalid: it ends before it begins, or a name, column or text cannot be stored.
    """
    _check(delivery)
    stored = _hold(database, tx, delivery)
    if delivery.start > stored:
        raise Conflict(
            f"segment {delivery.segment} of spool {delivery.spool} is stored to position {stored} and cannot go on "
            f"at {delivery.start}",
            next_step=f"deliver it from position {stored}",
        )
    if delivery.end <= stored:
        return Receipt(stored, applied=False)
    batches = [_batch(project, run, delivery, stored) for run in _runs(delivery)]
    outcome = write_batches(database, tx, batches)
    mine = (run_deliveries.c.spool == delivery.spool) & (run_deliveries.c.segment == delivery.segment)
    tx.execute(update(run_deliveries).where(mine).values(position=delivery.end))
    refused = {item.run: error for item, error in zip(batches, outcome, strict=True) if error is not None}
    return Receipt(delivery.end, applied=True, refused=refused)


def delivered(connection: Connection, spool: str) -> dict[int, int]:
    """The stored position of each segment of a spool that has any."""
    columns = run_deliveries.c
    rows = connection.execute(select(columns.segment, columns.position).where(columns.spool == spool))
    return {row.segment: row.position for row in rows}


def forget(tx: Connection, spool: str, before: int | None = None) -> None:
    """Drop the positions of segments that will not be delivered again: all, or those with lower numbers."""
    mine = run_deliveries.c.spool == spool
    tx.execute(delete(run_deliveries).where(mine if before is None else mine & (run_deliveries.c.segment < before)))


def _check(delivery: Delivery) -> None:
    if not 0 <= delivery.start <= delivery.end:
        raise Invalid(f"a delivery from position {delivery.start} to {delivery.end} is none")
    if not 0 < len(delivery.spool) <= _MAX_SPOOL or not delivery.spool.isalnum():
        raise Invalid(f"{delivery.spool[:80]!r} is no spool id", next_step=f"use up to {_MAX_SPOOL} letters and digits")
    for run in _runs(delivery):
        check_texts(delivery.params.get(run, {}), delivery.tags.get(run, {}))


def _hold(database: Database, tx: Connection, delivery: Delivery) -> int:
    """The stored position of the segment, held for this transaction."""
    row = {"spool": delivery.spool, "segment": delivery.segment, "position": 0}
    tx.execute(database.upsert(run_deliveries, row, ["spool", "segment"]))
    columns = run_deliveries.c
    query = select(columns.position).where(columns.spool == delivery.spool, columns.segment == delivery.segment)
    return int(tx.execute(query.with_for_update()).scalar_one())


def _runs(delivery: Delivery) -> list[str]:
    return sorted({*delivery.points, *delivery.params, *delivery.tags})


def _batch(project: str, run: str, delivery: Delivery, stored: int) -> Batch:
    points = {
        check_key("metric", key): _fresh(key, found, stored) for key, found in delivery.points.get(run, {}).items()
    }
    return Batch(project, run, points, delivery.params.get(run, {}), delivery.tags.get(run, {}))


def _fresh(key: str, found: Columns | Recorded, stored: int) -> Columns:
    """The points that did not arrive before, checked."""
    given = found.columns if isinstance(found, Recorded) else found
    columns = columns_of(given.steps, given.times_us, given.values, key)
    if not isinstance(found, Recorded) or found.positions is None:
        return columns
    if len(found.positions) != len(columns):
        raise Invalid(f"metric {key!r} has {len(columns)} points and {len(found.positions)} positions")
    return columns.part(np.asarray(found.positions) >= stored)
