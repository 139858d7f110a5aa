"""Webhooks over MLflow's protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from loopwright.server.protocols.mlflow import wire
from loopwright.server.protocols.mlflow.endpoint import Endpoint, ask
from loopwright.server.protocols.mlflow.records import Item, millis
from loopwright.server.route import Call

if TYPE_CHECKING:
    from loopwright.govern import Webhook

BASE = "/api/2.0/mlflow/webhooks"
FORMAT = "mlflow"
Status = Literal["ACTIVE", "DISABLED"]


class EventItem(wire.Request, frozen=True):
    """An event in the names of protobuf's enums, such as `MODEL_VERSION` and `CREATED`."""

    entity: str = ""
    action: str = ""


class Create(wire.Request, frozen=True):
    name: str
    url: str
    events: list[EventItem]
    description: str = ""
    secret: str = ""
    status: Status = "ACTIVE"


class Page(wire.Request, frozen=True):
    max_results: int = 100
    page_token: str = ""


class ById(wire.Request, frozen=True):
    webhook_id: str


class Update(wire.Request, frozen=True):
    webhook_id: str
    name: str = ""
    url: str = ""
    events: list[EventItem] = []
    description: str | None = None
    secret: str | None = None
    status: Status | None = None


class Test(wire.Request, frozen=True):
    webhook_id: str
    event: EventItem | None = None


class WebhookItem(Item, frozen=True, kw_only=True):
    webhook_id: str
    name: str
    url: str
    events: list[EventItem]
    status: Status
    creation_timestamp: int
    last_updated_timestamp: int
    description: str = ""


class One(Item, frozen=True):
    webhook: WebhookItem


class Many(Item, frozen=True):
    webhooks: list[WebhookItem]
    next_page_token: str = ""


class ResultItem(Item, frozen=True):
    success: bool
    response_status: int | None = None
    response_body: str = ""
    error_message: str = ""


class Result(Item, frozen=True):
    result: ResultItem


def webhook_item(webhook: Webhook) -> WebhookItem:
    """A webhook in MLflow's words. What only ours have, such as `alert.*`, MLflow's clients would not understand."""
    events = [name.upper().partition(".") for name in webhook.events] if webhook.format == FORMAT else []
    return WebhookItem(
        webhook_id=webhook.id,
        name=webhook.name,
        url=webhook.url,
        events=[EventItem(entity, action) for entity, _, action in events],
        status="ACTIVE" if webhook.active else "DISABLED",
        creation_timestamp=millis(webhook.created_at),
        last_updated_timestamp=millis(webhook.updated_at),
        description=webhook.description,
    )


def _names(events: list[EventItem]) -> list[str]:
    return [f"{event.entity}.{event.action}".lower() for event in events]


async def create(call: Call, asked: Create) -> One:
    """Make a webhook."""
    if not asked.events:
        raise wire.invalid("events", [], "Webhook events must be a non-empty list of WebhookEvent objects")
    active = asked.status == "ACTIVE"
    made = await ask(
        call,
        lambda rooms: rooms.webhooks.create(
            asked.name, asked.url, _names(asked.events), FORMAT, asked.secret, asked.description, active
        ),
    )
    return One(webhook_item(made))


async def get(call: Call, asked: ById) -> One:
    """One webhook."""
    return One(webhook_item(await ask(call, lambda rooms: rooms.webhooks.get(asked.webhook_id))))


async def search(call: Call, asked: Page) -> Many:
    """A page of webhooks: those of MLflow's format."""
    found = await ask(call, lambda rooms: rooms.webhooks.list(asked.max_results, asked.page_token))
    return Many([webhook_item(item) for item in found.webhooks if item.format == FORMAT], found.next)


async def update(call: Call, asked: Update) -> One:
    """Change what is given."""
    changed = await ask(
        call,
        lambda rooms: rooms.webhooks.update(
            asked.webhook_id,
            name=asked.name or None,
            url=asked.url or None,
            events=_names(asked.events) or None,
            secret=asked.secret,
            description=asked.description,
            active=None if asked.status is None else asked.status == "ACTIVE",
        ),
    )
    return One(webhook_item(changed))


async def delete(call: Call, asked: ById) -> None:
    """Delete a webhook."""
    await ask(call, lambda rooms: rooms.webhooks.delete(asked.webhook_id))


async def test(call: Call, asked: Test) -> Result:
    """Send an example, and say what came of it."""
    [name] = _names([asked.event]) if asked.event else [""]
    tried = await ask(call, lambda rooms: rooms.webhooks.test(asked.webhook_id, name))
    return Result(ResultItem(tried.good, tried.status, tried.body, tried.problem))


ENDPOINTS = (
    Endpoint("POST", BASE, "webhooks:admin", Create, create),
    Endpoint("GET", BASE, "webhooks:admin", Page, search),
    Endpoint("GET", f"{BASE}/{{webhook_id}}", "webhooks:admin", ById, get),
    Endpoint("PATCH", f"{BASE}/{{webhook_id}}", "webhooks:admin", Update, update),
    Endpoint("DELETE", f"{BASE}/{{webhook_id}}", "webhooks:admin", ById, delete),
    Endpoint("POST", f"{BASE}/{{webhook_id}}/test", "webhooks:admin", Test, test),
)
