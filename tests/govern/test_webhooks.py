"""Webhooks: signed, at least once, in order, and never in anybody's way."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event, select, update
from tests.govern.receiving import Receiver, receiving

from loopwright.core import Invalid, ManualClock, NotFound, Scope, Settings
from loopwright.govern import WebhookSender, WebhookService
from loopwright.govern.webhooks import queue
from loopwright.govern.webhooks.formats import subscribed
from loopwright.govern.webhooks.model import DeliveryState
from loopwright.govern.webhooks.posting import Verdict, judge, pause_after
from loopwright.govern.webhooks.tables import webhook_deliveries, webhooks
from loopwright.store import Stores

HERE = Scope("default", "user:ann")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime.now(UTC))


@pytest.fixture
def service(stores: Stores, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> WebhookService:
    allow(stores, monkeypatch)
    return WebhookService(stores, HERE, clock=clock)


@pytest.fixture
def sender(stores: Stores, clock: ManualClock) -> WebhookSender:
    return WebhookSender(stores, clock=clock)


def allow(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    location = stores.location.__class__(stores.root, stores.data, Settings(outgoing_allow=("127.0.0.1",)))
    monkeypatch.setattr(stores, "location", location)


def happen(stores: Stores, kind: str = "run.failed", project: str = "default", **evidence: object) -> str:
    with stores.db.begin() as tx:
        return stores.events.append(tx, kind, "run:1", Scope(project), evidence).id


def told(receiver: Receiver) -> list[str]:
    return [json.loads(heard.body)["data"]["id"] for heard in receiver.heard]


def test_what_happens_is_told_signed_and_in_order(
    stores: Stores, service: WebhookService, sender: WebhookSender, receiver: Receiver
) -> None:
    happen(stores)
    hook = service.create("ops", receiver.url, ["run.failed", "alert.*"], secret="s3cret")
    happened = [happen(stores), happen(stores, "alert.opened"), happen(stores)]
    for kind in ("run.finished", "model.created"):
        happen(stores, kind)
    happen(stores, project="other")
    assert sender.turn()
    assert told(receiver) == happened
    for heard in receiver.heard:
        id, at = heard.headers["webhook-id"], heard.headers["webhook-timestamp"]
        key = hmac.new(b"s3cret", f"{id}.{at}.{heard.body}".encode(), hashlib.sha256).digest()
        assert heard.headers["webhook-signature"] == "v1," + base64.b64encode(key).decode()
        assert abs(int(at) - time.time()) < 60
        assert heard.headers["content-type"] == "application/json"
    assert {item.state for item in service.deliveries(hook.id)} == {DeliveryState.DELIVERED}
    sender.turn()
    assert len(receiver.heard) == len(happened)


def test_a_secret_is_never_given_back(service: WebhookService, stores: Stores, receiver: Receiver) -> None:
    hook = service.create("ops", receiver.url, ["*"], secret="s3cret-text")
    service.update(hook.id, secret="s3cret-more")
    seen = [hook, service.get(hook.id), service.list(), service.deliveries(hook.id), stores.events.read()]
    assert hook.signed
    assert "s3cret" not in repr(seen)


def test_a_receiver_in_trouble_is_tried_again_with_the_same_id_and_later_each_time(
    stores: Stores, service: WebhookService, sender: WebhookSender, receiver: Receiver, clock: ManualClock
) -> None:
    hook = service.create("ops", receiver.url, ["run.*"])
    happened = [happen(stores), happen(stores)]
    receiver.answers = [503, 500]
    sender.turn()
    sender.turn()
    assert told(receiver) == happened[:1], "it is left alone for a while, and nothing overtakes"
    clock.advance(clock.now() + timedelta(seconds=1.1))
    sender.turn()
    assert service.get(hook.id).failures == 2
    clock.advance(clock.now() + timedelta(seconds=2.1))
    sender.turn()
    assert told(receiver) == [happened[0]] * 3 + happened[1:]
    assert len({heard.headers["webhook-id"] for heard in receiver.heard}) == 2
    assert service.get(hook.id).failures == 0
    assert [item.attempts for item in service.deliveries(hook.id)] == [1, 3]


def test_what_a_receiver_refuses_is_given_up_and_holds_up_nothing(
    stores: Stores, service: WebhookService, sender: WebhookSender, receiver: Receiver
) -> None:
    hook = service.create("ops", receiver.url, ["run.*"])
    happened = [happen(stores), happen(stores)]
    receiver.answers = [302]
    sender.turn()
    assert told(receiver) == happened
    refused = service.deliveries(hook.id)[1]
    assert (refused.state, refused.status, refused.problem) == (DeliveryState.GIVEN_UP, 302, "it answered 302")
    assert refused.about == f"event:{happened[0]}"


def test_a_message_that_always_fails_is_given_up_after_twelve_attempts(
    stores: Stores, service: WebhookService, sender: WebhookSender, receiver: Receiver, clock: ManualClock
) -> None:
    hook = service.create("ops", receiver.url, ["run.*"])
    happen(stores)
    receiver.answers = [500] * 100
    for _ in range(15):
        sender.turn()
        clock.advance(clock.now() + timedelta(minutes=5))
    assert len(receiver.heard) == 12
    assert service.deliveries(hook.id)[0].state == DeliveryState.GIVEN_UP


def test_a_receiver_that_is_down_costs_nobody_else_anything(
    stores: Stores, service: WebhookService, sender: WebhookSender, receiver: Receiver
) -> None:
    service.create("down", "http://127.0.0.1:9/", ["*"])
    service.create("up", receiver.url, ["run.*"])
    happened = [happen(stores), happen(stores)]
    sender.turn()
    assert told(receiver) == happened


def test_an_address_that_the_settings_allow_no_more_is_not_called(
    stores: Stores, service: WebhookService, sender: WebhookSender, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = service.create("ops", receiver.url, ["run.*"])
    happen(stores)
    monkeypatch.setattr(stores, "location", stores.location.__class__(stores.root, stores.data, Settings()))
    sender.turn()
    assert receiver.heard == []
    assert "not https" in service.deliveries(hook.id)[0].problem


def test_two_processes_tell_nothing_twice(
    stores: Stores, service: WebhookService, sender: WebhookSender, receiver: Receiver
) -> None:
    service.create("ops", receiver.url, ["run.*"])
    happened = [happen(stores)]
    assert sender.turn()
    assert not WebhookSender(stores).turn(), "the other one has the lease"
    sender.stop()
    happened.append(happen(stores))
    assert WebhookSender(stores).turn()
    assert told(receiver) == happened


def test_switching_off_moving_and_deleting_drop_what_waits(
    stores: Stores, service: WebhookService, sender: WebhookSender, receiver: Receiver, clock: ManualClock
) -> None:
    hook = service.create("ops", "http://127.0.0.1:9/", ["run.*"])
    happen(stores)
    sender.turn()
    assert not service.update(hook.id, active=False).active
    happen(stores)
    sender.turn()
    assert [item.state for item in service.deliveries(hook.id)] == [DeliveryState.GIVEN_UP]
    moved = service.update(hook.id, url=receiver.url, active=True, events=["run.killed"], name="renamed")
    assert (moved.failures, moved.next_at, moved.events) == (0, None, ("run.killed",))
    clock.advance(clock.now() + timedelta(hours=1))
    sender.turn()
    assert receiver.heard == []
    service.delete(hook.id)
    with pytest.raises(NotFound):
        service.get(hook.id)
    with stores.db.read() as connection:
        assert connection.execute(select(webhook_deliveries)).all() == []
    assert [event.kind for event in stores.events.read() if event.kind.startswith("webhook.")] == [
        "webhook.created",
        "webhook.changed",
        "webhook.changed",
        "webhook.deleted",
    ]


def test_what_waits_is_bounded_in_number_and_time(
    stores: Stores, service: WebhookService, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "MAX_WAITING", 3)
    hook = service.create("ops", "http://127.0.0.1:9/", ["run.*"])
    events = [stores.events.get(happen(stores)) for _ in range(5)]
    with stores.db.begin() as tx:
        hooks = queue.active_webhooks(tx)
        formats = service._formats  # the sender's are made the same way
        queue.add(tx, queue.drafts(stores, formats, hooks, events), clock.now())
        assert queue.count_waiting(tx) == 3
        clock.advance(clock.now() + timedelta(hours=25))
        queue.tidy(tx, clock.now())
        assert queue.count_waiting(tx) == 0
    assert {item.problem for item in service.deliveries(hook.id)} == {
        "more than 3 were waiting",
        "it could not be delivered within 24 hours",
    }
    with stores.db.begin() as tx:
        queue.tidy(tx, clock.now() + timedelta(days=8))
    assert service.deliveries(hook.id) == ()


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "http://example.org/"},
        {"url": "https://169.254.169.254/"},
        {"events": []},
        {"events": ["run failed"]},
        {"events": [f"a.b{'c' * n}" for n in range(101)]},
        {"format": "xml"},
        {"name": "../x"},
        {"secret": "x" * 1001},
        {"description": "\x00"},
    ],
)
def test_what_cannot_be_a_webhook_is_refused(service: WebhookService, wrong: dict[str, object]) -> None:
    given = {"name": "ops", "url": "https://example.org/hook", "events": ["run.failed"], **wrong}
    with pytest.raises(Invalid):
        service.create(**given)  # type: ignore[arg-type]  # that is what is tested
    assert service.list().webhooks == []


def test_webhooks_of_another_project_are_not_there(service: WebhookService, stores: Stores, receiver: Receiver) -> None:
    hook, other = service.create("ops", receiver.url, ["*"]), WebhookService(stores, Scope("other"))
    for ask in (other.get, other.delete, other.update, other.test, other.deliveries):
        with pytest.raises(NotFound):
            ask(hook.id)
    assert other.list().webhooks == []


def test_a_list_comes_in_pages(service: WebhookService, receiver: Receiver) -> None:
    made = [service.create(f"w{n}", receiver.url, ["*"]).id for n in range(5)]
    page = service.list(limit=3)
    rest = service.list(limit=3, after=page.next)
    assert [item.id for item in page.webhooks + rest.webhooks] == made[::-1]
    assert rest.next == ""


def test_a_trial_says_what_came_of_it(service: WebhookService, receiver: Receiver) -> None:
    hook = service.create("ops", receiver.url, ["alert.*"], secret="s")
    receiver.answers = [418]
    assert (tried := service.test(hook.id)).status == 418
    assert not tried.good
    assert service.test(hook.id, "run.failed").good
    assert json.loads(receiver.heard[1].body)["type"] == "run.failed"
    down = service.create("down", "http://127.0.0.1:9/", ["*"])
    assert "did not answer" in service.test(down.id).problem


@given(st.integers(1, 10_000), st.floats(0, 1), st.floats(0, 1e9))
def test_pauses_grow_to_five_minutes_and_no_further(failures: int, luck: float, asked_s: float) -> None:
    pause = pause_after(failures, luck, asked_s)
    assert 0.5 <= pause <= 300
    assert pause >= min(asked_s, 300)
    assert pause_after(failures + 1, luck) >= pause_after(failures, luck)


def test_answers_are_judged() -> None:
    verdicts = {status: judge(status) for status in (200, 204, 301, 400, 404, 408, 410, 429, 500, 503)}
    assert [status for status, verdict in verdicts.items() if verdict is Verdict.DELIVERED] == [200, 204]
    assert [status for status, verdict in verdicts.items() if verdict is Verdict.AGAIN] == [408, 429, 500, 503]


def test_patterns_mean_names() -> None:
    assert subscribed(["alert.*"], "alert.opened")
    assert subscribed(["*"], "run.failed")
    assert not subscribed(["alert.*", "run.failed"], "run.finished")
    assert not subscribed(["run.*"], "runs.removed")


DIES = """
import sys
from loopwright.govern import WebhookSender
from loopwright.workspace import open_workspace
ws = open_workspace(sys.argv[1])
print("ready", flush=True)
sender = WebhookSender(ws.stores, interval_s=0.01)
sender.start()
import time
time.sleep(60)
"""


@pytest.mark.slow
def test_a_killed_sender_loses_nothing(
    make_sqlite_stores: object, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed five times in the middle of its work: each event is told, and a repeat has the same id."""
    root = tmp_path_factory.mktemp("killed")
    stores: Stores = make_sqlite_stores(root)  # type: ignore[operator]  # a function that opens stores
    (root / "loopwright.toml").write_text('outgoing_allow = ["127.0.0.1"]\n')
    allow(stores, monkeypatch)
    with receiving() as receiver:
        WebhookService(stores, HERE).create("ops", receiver.url, ["run.*"])
        happened = []
        for _ in range(5):
            program = [sys.executable, "-c", DIES, str(root)]
            with subprocess.Popen(program, stdout=subprocess.PIPE) as process:
                assert process.stdout is not None
                assert process.stdout.readline() == b"ready\n"
                happened += [happen(stores) for _ in range(40)]
                seen = len(receiver.heard)
                receiver.wait(seen + 5)
                os.kill(process.pid, signal.SIGKILL)
            with stores.db.begin() as tx:  # a successor would wait for the dead one's lease
                tx.exec_driver_sql("DELETE FROM leases")
                tx.execute(update(webhooks).values(next_at=None))
        last = WebhookSender(stores)
        while True:
            assert last.turn()
            with stores.db.read() as connection:
                if queue.count_waiting(connection) == 0:
                    break
        heard = {json.loads(one.body)["data"]["id"]: one.headers["webhook-id"] for one in receiver.heard}
        assert sorted(heard) == sorted(happened)
        assert len({one.headers["webhook-id"] for one in receiver.heard}) == len(happened)


def test_what_waits_is_found_from_indexes(stores: Stores, service: WebhookService, clock: ManualClock) -> None:
    """Deliveries that have ended are most of the table; looking for what is due must not read them."""
    hook = service.create("ops", "https://example.org/", ["*"])
    blank = {"webhook": hook.id, "event": "run.failed", "event_id": "0" * 32, "body": "{}", "attempts": 1}
    ended = {**blank, "state": DeliveryState.DELIVERED, "created_at": clock.now(), "ended_at": clock.now()}
    with stores.db.begin() as tx:
        tx.execute(webhook_deliveries.insert(), [{**ended, "problem": "", "id": f"{n:032x}"} for n in range(5000)])
    with stores.db.begin() as tx:
        tx.exec_driver_sql("ANALYZE")
    asked: list[tuple[str, Any]] = []
    with stores.db.begin() as tx:
        event.listen(tx.engine, "before_cursor_execute", lambda *given: asked.append((given[2], given[3])))
        queue.due(tx, clock.now(), [])
        queue.oldest(tx, hook.id, 20)
        queue.tidy(tx, clock.now())
    looked = [(text, given) for text, given in asked if "webhook_deliveries" in text and "EXPLAIN" not in text]
    assert len(looked) == 4
    with stores.db.begin() as tx:
        for text, given in looked:
            prefix = "EXPLAIN QUERY PLAN " if stores.db.dialect == "sqlite" else "EXPLAIN "
            plan = "\n".join(str(row) for row in tx.exec_driver_sql(prefix + text, given))
            assert not re.search(r"SCAN webhook_deliveries(?! USING)|Seq Scan on webhook_deliveries", plan), plan
