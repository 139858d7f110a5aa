"""What waits to be delivered: statements in transactions that their callers opened."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, func, insert, or_, select, update

from loopwright.core import new_id
from loopwright.govern.webhooks.formats import Formats, subscribed
from loopwright.govern.webhooks.model import DeliveryState, Message
from loopwright.govern.webhooks.tables import webhook_deliveries, webhooks
from loopwright.store import Event, Stores

MAX_WAITING = 10_000
PATIENCE = timedelta(hours=24)
KEPT = timedelta(days=7)
_columns = webhook_deliveries.c
_WAITS = _columns.ended_at.is_(None)
"""What waits is what has not ended: said like this, the index of what waits serves whatever the planner knows."""


def text_of(message: Message) -> str:
    """A message as it is sent."""
    return msgspec.json.encode(message.body).decode()


def active_webhooks(connection: Connection) -> Sequence[Row[Any]]:
    """The webhooks that are on, of all projects."""
    return connection.execute(select(webhooks).where(webhooks.c.active)).all()


def drafts(
    stores: Stores, formats: Formats, hooks: Sequence[Row[Any]], events: Sequence[Event]
) -> list[dict[str, Any]]:
    """The deliveries that events give, in their order. A webhook is told of what came after it: ids go by time."""
    found = []
    for event in events:
        listening = [hook for hook in hooks if hook.project == event.project and event.id > hook.id]
        for name in sorted({hook.format for hook in listening}):
            messages = formats.get(name).messages(stores, event)
            found += [
                _draft(hook, event, message)
                for message in messages
                for hook in listening
                if hook.format == name and subscribed(hook.events, message.event)
            ]
    return found


def _draft(hook: Row[Any], event: Event, message: Message) -> dict[str, Any]:
    return {
        "id": new_id(),
        "webhook": hook.id,
        "event": message.event[:128],
        "event_id": event.id,
        "body": text_of(message),
        "state": DeliveryState.WAITING,
        "attempts": 0,
        "problem": "",
    }


def add(tx: Connection, rows: Sequence[dict[str, Any]], now: datetime) -> None:
    """Keep deliveries, but for those of webhooks that are no longer there; the oldest beyond a bound are given up."""
    wanted = {row["webhook"] for row in rows}
    there = set(tx.execute(select(webhooks.c.id).where(webhooks.c.id.in_(wanted))).scalars())
    kept = [{**row, "created_at": now} for row in rows if row["webhook"] in there]
    if kept:
        tx.execute(insert(webhook_deliveries), kept)
    for webhook in there:
        waiting = select(_columns.id).where(*_waiting(webhook)).order_by(_columns.id.desc())
        last = tx.execute(waiting.offset(MAX_WAITING).limit(1)).scalar()
        if last is not None:
            _end(tx, now, f"more than {MAX_WAITING:,} were waiting", *_waiting(webhook), _columns.id <= last)


def due(connection: Connection, now: datetime, busy: Sequence[str]) -> Sequence[Row[Any]]:
    """The webhooks that something waits for and that may be tried now."""
    waits = select(_columns.webhook).where(_WAITS)
    ready = or_(webhooks.c.next_at.is_(None), webhooks.c.next_at <= now)
    query = select(webhooks).where(webhooks.c.active, ready, webhooks.c.id.in_(waits))
    return [row for row in connection.execute(query) if row.id not in busy]


def oldest(connection: Connection, webhook: str, limit: int) -> Sequence[Row[Any]]:
    """What has waited longest for a webhook."""
    query = select(webhook_deliveries).where(*_waiting(webhook)).order_by(_columns.id).limit(limit)
    return connection.execute(query).all()


def succeed(tx: Connection, delivery: str, webhook: str, status: int, now: datetime) -> None:
    """Note that a receiver took a delivery."""
    ended = {"state": DeliveryState.DELIVERED, "ended_at": now, "status": status, "problem": ""}
    tx.execute(
        update(webhook_deliveries).where(_columns.id == delivery).values(**ended, attempts=_columns.attempts + 1)
    )
    clear = {"failures": 0, "next_at": None}
    tx.execute(update(webhooks).where(webhooks.c.id == webhook, webhooks.c.failures > 0).values(clear))


def fail(tx: Connection, delivery: str, status: int | None, problem: str, ended_at: datetime | None) -> None:
    """Note an attempt that failed; with `ended_at`, the last one."""
    values: dict[str, Any] = {"attempts": _columns.attempts + 1, "status": status, "problem": problem[:500]}
    if ended_at is not None:
        values |= {"state": DeliveryState.GIVEN_UP, "ended_at": ended_at}
    tx.execute(update(webhook_deliveries).where(_columns.id == delivery).values(values))


def postpone(tx: Connection, webhook: str, failures: int, until: datetime) -> None:
    """Leave a webhook alone until a time."""
    tx.execute(update(webhooks).where(webhooks.c.id == webhook).values(failures=failures, next_at=until))


def drop_waiting(tx: Connection, webhook: str, now: datetime, why: str) -> None:
    """Give up all that waits for a webhook."""
    _end(tx, now, why, *_waiting(webhook))


def tidy(tx: Connection, now: datetime) -> None:
    """Give up what has waited for a day, and forget what ended a week ago."""
    late = (_WAITS, _columns.created_at < now - PATIENCE)
    _end(tx, now, "it could not be delivered within 24 hours", *late)
    tx.execute(webhook_deliveries.delete().where(_columns.ended_at < now - KEPT))


def count_waiting(connection: Connection) -> int:
    """How many deliveries wait."""
    query = select(func.count()).where(_WAITS)
    return int(connection.execute(query).scalar_one())


def _waiting(webhook: str) -> tuple[ColumnElement[bool], ...]:
    return _WAITS, _columns.webhook == webhook


def _end(tx: Connection, now: datetime, why: str, *which: ColumnElement[bool]) -> None:
    ended = {"state": DeliveryState.GIVEN_UP, "ended_at": now, "problem": why}
    tx.execute(update(webhook_deliveries).where(*which).values(ended))
