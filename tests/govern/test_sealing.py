"""Secrets of webhooks are sealed where there is a key, and sign as before."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import select
from tests.govern.receiving import Receiver, receiving

from loopwright.core import Invalid, Scope, Settings, Unavailable
from loopwright.govern import WebhookSender, WebhookService
from loopwright.govern.webhooks.sealing import MARK, seal, seal_all, unseal
from loopwright.govern.webhooks.tables import webhooks
from loopwright.store import Stores

HERE = Scope("default", "user:ann")
OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def use(stores: Stores, monkeypatch: pytest.MonkeyPatch, *keys: str) -> None:
    settings = Settings(outgoing_allow=("127.0.0.1",), secret_keys=keys)
    monkeypatch.setattr(stores, "location", stores.location.__class__(stores.root, stores.data, settings))


def kept(stores: Stores) -> list[str]:
    with stores.db.read() as connection:
        return list(connection.execute(select(webhooks.c.secret).order_by(webhooks.c.id)).scalars())


def test_a_sealed_secret_is_in_no_row_and_signs_as_it_did(
    stores: Stores, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(stores, monkeypatch, NEW)
    made = WebhookService(stores, HERE).create("ops", receiver.url, ["run.failed"], secret="é" * 1000)
    assert made.signed
    [row] = kept(stores)
    assert row.startswith(MARK)
    assert "é" not in row
    assert WebhookService(stores, HERE).test(made.id).good
    headers, body = receiver.heard[0]
    text = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{body}"
    told = hmac.new(("é" * 1000).encode(), text.encode(), hashlib.sha256).digest()
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(told).decode()}"


def test_what_was_there_is_sealed_and_a_key_can_be_changed(
    stores: Stores, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(stores, monkeypatch)
    service = WebhookService(stores, HERE)
    for secret in ("one", "", "two"):
        service.create("ops", receiver.url, ["run.failed"], secret=secret)
    assert kept(stores) == ["one", "", "two"]
    for keys in ((OLD,), (NEW, OLD)):
        use(stores, monkeypatch, *keys)
        sender = WebhookSender(stores)
        sender.start()
        sender.stop()
        assert [unseal(keys[:1], row) for row in kept(stores)] == ["one", "", "two"]
    before = kept(stores)
    seal_all(stores)
    assert kept(stores) == before


def test_a_lost_key_a_key_that_is_none_and_a_secret_that_looks_sealed_are_told(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed = seal([OLD], "one")
    for keys in ([], [NEW]):
        with pytest.raises(Unavailable, match="no key of the setting secret_keys opens it"):
            unseal(keys, sealed)
    with pytest.raises(Invalid, match="openssl rand -base64 32"):
        seal(["short"], "one")
    with pytest.raises(Invalid, match="cannot begin with 'sealed:'"):
        seal([], sealed)
