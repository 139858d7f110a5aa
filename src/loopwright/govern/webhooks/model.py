"""The words of webhooks."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec


class Webhook(msgspec.Struct, frozen=True):
    """An address that is told of events. Its secret is never given back; `signed` says whether there is one.

    `failures` counts the attempts that failed since the last one that did not; `next_at` is when the next one may be.
    """

    id: str
    name: str
    url: str
    events: tuple[str, ...]
    format: str
    description: str
    active: bool
    signed: bool
    created_at: datetime
    updated_at: datetime
    created_by: str
    failures: int = 0
    next_at: datetime | None = None


class WebhookPage(msgspec.Struct, frozen=True):
    """Webhooks of one page, newest first; `next` asks for the page after it, and is empty on the last one."""

    webhooks: list[Webhook]
    next: str = ""


class DeliveryState(StrEnum):
    WAITING = "waiting"
    DELIVERED = "delivered"
    GIVEN_UP = "given_up"


class Delivery(msgspec.Struct, frozen=True):
    """One message for one webhook. Its id is the same in each attempt, so that a receiver can tell a repeat.

    `about` is the ref of the event; `status` is the receiver's last answer, and `problem` says what was wrong with it.
    """

    id: str
    webhook: str
    event: str
    about: str
    state: DeliveryState
    attempts: int
    created_at: datetime
    ended_at: datetime | None = None
    status: int | None = None
    problem: str = ""


class Tried(msgspec.Struct, frozen=True):
    """What came of a trial: whether the receiver took it, its answer, and what was wrong."""

    good: bool
    status: int | None = None
    body: str = ""
    problem: str = ""


class Message(msgspec.Struct, frozen=True):
    """What an event is to a webhook: the name that it subscribes to, and the body to send."""

    event: str
    body: dict[str, Any]
