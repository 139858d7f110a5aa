"""What one can ask of webhooks. All of it is for admins: an address may hold a secret, and others are told things."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from loopwright.core import Clock, Invalid, LoopwrightError, NotFound, Scope, SystemClock, check_name, new_id, operation
from loopwright.govern.webhooks import queue
from loopwright.govern.webhooks.formats import NATIVE, Formats
from loopwright.govern.webhooks.model import Delivery, DeliveryState, Tried, Webhook, WebhookPage
from loopwright.govern.webhooks.posting import post
from loopwright.govern.webhooks.sealing import seal
from loopwright.govern.webhooks.tables import webhook_deliveries, webhooks
from loopwright.store import Stores

_MAX_PAGE, _MAX_EVENTS, _MAX_WEBHOOKS = 1000, 100, 100
_MAX_SECRET, _MAX_DESCRIPTION, _SHOWN = 1000, 10_000, 10_000


class WebhookService:
    """Webhooks of one project. Times are the machine's, not a replay's."""

    def __init__(
        self, stores: Stores, scope: Scope, *, formats: Mapping[str, str] | None = None, clock: Clock | None = None
    ) -> None:
        """Args: formats: further formats by name, as `module:attribute`."""
        self.stores, self.scope, self.clock = stores, scope, clock or SystemClock()
        self._formats = Formats(formats or {})

    @operation("webhooks.create", permission="webhooks:admin", effect="write")
    def create(
        self,
        name: str,
        url: str,
        events: Sequence[str],
        format: str = NATIVE,
        secret: str = "",
        description: str = "",
        active: bool = True,
    ) -> Webhook:
        """Tell an address of events from now on.

        Args:
            name: for people; several webhooks may have the same.
            url: where to post; https, and no address inside a network unless the setting `outgoing_allow` names it.
            events: such as `["run.failed", "alert.*"]`; with the format `mlflow`, such as `model_version.created`.
            format: how the messages look: `loopwright` or `mlflow`.
            secret: signs each message; it is never given back.

        Raises:
            Invalid: the address is refused, an event is none, there are 100 webhooks already, or a text is too long.
        """
        now = self.clock.now()
        row = {
            "id": new_id(),
            "project": self.scope.project,
            "created_at": now,
            "created_by": self.scope.actor,
            "failures": 0,
            "next_at": None,
            "active": active,
            **self._checked(format, name=name, url=url, events=events, secret=secret, description=description),
            "format": format,
            "updated_at": now,
        }
        with self.stores.db.begin() as tx:
            self.stores.db.lock(tx, f"webhooks {self.scope.project}")
            self._refuse_too_many(tx)
            tx.execute(insert(webhooks).values(row))
            return self._told(tx, "webhook.created", str(row["id"]))

    @operation("webhooks.get", permission="webhooks:admin")
    def get(self, webhook: str) -> Webhook:
        """One webhook.

        Raises:
            NotFound: there is none of that id.
        """
        with self.stores.db.read() as connection:
            return _webhook(self._row(connection, webhook))

    @operation("webhooks.list", permission="webhooks:admin")
    def list(self, limit: int = 100, after: str = "") -> WebhookPage:
        """The webhooks of this project, newest first.

        Args:
            limit: at most so many, up to 1,000.
            after: what the page before said in `next`.

        Raises:
            Invalid: the limit is out of range.
        """
        query = select(webhooks).where(webhooks.c.project == self.scope.project)
        if after:
            query = query.where(webhooks.c.id < after)
        with self.stores.db.read() as connection:
            rows = connection.execute(query.order_by(webhooks.c.id.desc()).limit(_bounded(limit) + 1)).all()
        more = rows[limit - 1].id if len(rows) > limit else ""
        return WebhookPage([_webhook(row) for row in rows[:limit]], more)

    @operation("webhooks.update", permission="webhooks:admin", effect="write")
    def update(
        self,
        webhook: str,
        name: str | None = None,
        url: str | None = None,
        events: Sequence[str] | None = None,
        secret: str | None = None,
        description: str | None = None,
        active: bool | None = None,
    ) -> Webhook:
        """Change what is given. A webhook that is switched off, or gets another address, drops what waits for it.

        Raises:
            NotFound: there is none of that id.
            Invalid: as for `create`.
        """
        given = {"name": name, "url": url, "events": events, "secret": secret, "description": description}
        changes = {key: value for key, value in given.items() if value is not None}
        with self.stores.db.begin() as tx:
            held = self._row(tx, webhook)
            values = self._checked(held.format, **changes)
            if active is not None:
                values["active"] = active
            moved = active is False or url not in (None, held.url)
            if moved:
                queue.drop_waiting(tx, webhook, self.clock.now(), "the webhook was switched off or moved")
            if moved or active:
                values |= {"failures": 0, "next_at": None}
            tx.execute(update(webhooks).where(webhooks.c.id == webhook).values(**values, updated_at=self.clock.now()))
            return self._told(tx, "webhook.changed", webhook, sorted(values.keys() - {"failures", "next_at"}))

    @operation("webhooks.delete", permission="webhooks:admin", effect="write")
    def delete(self, webhook: str) -> None:
        """Delete a webhook, with what waits for it.

        Raises:
            NotFound: there is none of that id.
        """
        with self.stores.db.begin() as tx:
            self._row(tx, webhook)
            self._told(tx, "webhook.deleted", webhook)
            tx.execute(delete(webhook_deliveries).where(webhook_deliveries.c.webhook == webhook))
            tx.execute(delete(webhooks).where(webhooks.c.id == webhook))

    @operation("webhooks.test", permission="webhooks:admin", effect="write")
    def test(self, webhook: str, event: str = "") -> Tried:
        """Send a made-up message of one of its events now, once, and say what came of it.

        Args:
            event: by default the first of those that it is told of.

        Raises:
            NotFound: there is none of that id.
            Invalid: the event is none of its format's.
        """
        with self.stores.db.read() as connection:
            held = self._row(connection, webhook)
        form = self._formats.get(held.format)
        form.check([event or held.events[0]])
        message = form.example(event or held.events[0])
        try:
            reply = post(self.stores.location.settings, form, held, new_id(), queue.text_of(message))
        except LoopwrightError as error:
            return Tried(False, problem=str(error))
        return Tried(reply.good, reply.status, reply.body.decode("utf-8", "replace")[:_SHOWN])

    @operation("webhooks.deliveries", permission="webhooks:admin")
    def deliveries(self, webhook: str, limit: int = 100, after: str = "") -> tuple[Delivery, ...]:
        """What was and is to be delivered to a webhook, newest first; what has ended is kept for a week.

        Args:
            limit: at most so many, up to 1,000.
            after: the id of the last delivery of the page before.

        Raises:
            NotFound: there is none of that id.
            Invalid: the limit is out of range.
        """
        columns = webhook_deliveries.c
        query = select(webhook_deliveries).where(columns.webhook == webhook)
        if after:
            query = query.where(columns.id < after)
        with self.stores.db.read() as connection:
            self._row(connection, webhook)
            return tuple(
                _delivery(row) for row in connection.execute(query.order_by(columns.id.desc()).limit(_bounded(limit)))
            )

    def _checked(self, format: str, **values: Any) -> dict[str, Any]:
        """The values, if all of them can be kept.

        Raises:
            Invalid: one cannot.
        """
        if "name" in values:
            check_name("webhook", values["name"])
        if "url" in values:
            from loopwright.store import Outgoing

            Outgoing(self.stores.location.settings.outgoing_allow).check(values["url"])
        if "events" in values:
            values["events"] = self._checked_events(format, values["events"])
        for key, most in (("secret", _MAX_SECRET), ("description", _MAX_DESCRIPTION)):
            if len(values.get(key, "")) > most or "\x00" in values.get(key, ""):
                raise Invalid(f"the {key} of a webhook is too long, or holds a NUL", next_step=f"use {most} characters")
        if "secret" in values:
            values["secret"] = seal(self.stores.location.settings.secret_keys, values["secret"])
        return values

    def _checked_events(self, format: str, given: Sequence[str]) -> Sequence[str]:
        names = tuple(dict.fromkeys(given))
        if not 0 < len(names) <= _MAX_EVENTS:
            raise Invalid(f"{len(names)} events for a webhook", where="events", next_step=f"name 1 to {_MAX_EVENTS}")
        self._formats.get(format).check(names)
        return names

    def _refuse_too_many(self, tx: Connection) -> None:
        query = select(webhooks.c.id).where(webhooks.c.project == self.scope.project).limit(_MAX_WEBHOOKS)
        if len(tx.execute(query).all()) >= _MAX_WEBHOOKS:
            raise Invalid(f"the project has {_MAX_WEBHOOKS} webhooks", next_step="delete one that is not needed")

    def _told(self, tx: Connection, kind: str, webhook: str, changed: Sequence[str] = ()) -> Webhook:
        held = _webhook(self._row(tx, webhook))
        told = {"name": held.name, "events": held.events, "active": held.active}
        more = {"changed": list(changed)} if changed else {}
        self.stores.events.append(tx, kind, f"webhook:{webhook}", self.scope, {**told, **more})
        return held

    def _row(self, connection: Connection, webhook: str) -> Row[Any]:
        query = select(webhooks).where(webhooks.c.id == webhook, webhooks.c.project == self.scope.project)
        row = connection.execute(query).one_or_none()
        if row is None:
            raise NotFound(f"there is no webhook {webhook[:80]!r}", next_step="see webhooks.list")
        return row


def _bounded(limit: int) -> int:
    if not 1 <= limit <= _MAX_PAGE:
        raise Invalid(f"limit is {limit}", where="limit", next_step=f"use 1 to {_MAX_PAGE}")
    return limit


def _webhook(row: Row[Any]) -> Webhook:
    hidden = {"project", "secret"}
    values: dict[str, Any] = {name: value for name, value in row._mapping.items() if name not in hidden}
    return Webhook(**{**values, "events": tuple(row.events), "active": bool(row.active), "signed": bool(row.secret)})


def _delivery(row: Row[Any]) -> Delivery:
    ended: datetime | None = row.ended_at
    return Delivery(
        id=row.id,
        webhook=row.webhook,
        event=row.event,
        about=f"event:{row.event_id}",
        state=DeliveryState(row.state),
        attempts=row.attempts,
        created_at=row.created_at,
        ended_at=ended,
        status=row.status,
        problem=row.problem,
    )
