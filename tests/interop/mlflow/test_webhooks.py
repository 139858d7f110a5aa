"""Webhooks with the newest client from PyPI, unmodified: what it makes is delivered to a real receiver."""

from __future__ import annotations

import json
import time

import mlflow
import pytest
from mlflow.entities.webhook import WebhookEvent, WebhookStatus
from mlflow.exceptions import MlflowException
from mlflow.webhooks.delivery import _generate_hmac_signature
from mlflow.webhooks.types import get_example_payload_for_event, get_payload_class_for_event
from tests.govern.receiving import Heard, receiving

SECRET = "correct horse"
EVENTS = [
    "registered_model.created",
    "model_version.created",
    "model_version_tag.set",
    "model_version_tag.deleted",
    "model_version_alias.created",
    "model_version_alias.deleted",
    "prompt.created",
    "prompt_version.created",
    "prompt_alias.created",
]


def verified(heard: Heard) -> dict[str, object]:
    """The body, once its signature is found to be what MLflow's own code makes of it."""
    id, at = heard.headers["x-mlflow-delivery-id"], heard.headers["x-mlflow-timestamp"]
    assert heard.headers["x-mlflow-signature"] == _generate_hmac_signature(SECRET, id, at, heard.body)
    assert abs(int(at) - time.time()) < 60
    found: dict[str, object] = json.loads(heard.body)
    event = WebhookEvent(str(found["entity"]), str(found["action"]))
    wanted = get_payload_class_for_event(event)
    assert wanted is not None
    assert set(found["data"]) == set(wanted.__annotations__)  # type: ignore[call-overload]  # it is a dict
    return found


def test_what_happens_in_the_registry_reaches_a_receiver_signed(client: mlflow.MlflowClient) -> None:
    with receiving() as receiver:
        made = client.create_webhook(
            "all", receiver.url, [WebhookEvent.from_str(name) for name in EVENTS], "what happens", SECRET
        )
        assert (made.name, made.status, made.description) == ("all", WebhookStatus.ACTIVE, "what happens")
        assert [str(event) for event in made.events] == EVENTS
        client.create_registered_model("delay", {"team": "ops"}, "late flights")
        run = client.create_run("0").info.run_id
        client.log_text(run, "weights", "model/weights.txt")
        version = client.create_model_version("delay", f"runs:/{run}/model", run)
        client.set_model_version_tag("delay", version.version, "checked", "yes")
        client.delete_model_version_tag("delay", version.version, "checked")
        client.set_registered_model_alias("delay", "champion", version.version)
        client.delete_registered_model_alias("delay", "champion")
        mlflow.genai.register_prompt(name="greet", template="Hello {{name}}!", tags={"tone": "warm"})
        mlflow.genai.set_prompt_alias("greet", "live", 1)
        heard = [verified(one) for one in receiver.wait(len(EVENTS))]
    assert [f"{body['entity']}.{body['action']}" for body in heard] == EVENTS
    data = {f"{body['entity']}.{body['action']}": body["data"] for body in heard}
    assert data["model_version.created"]["run_id"] == run  # type: ignore[index]  # it is a dict
    assert data["prompt_version.created"]["template"] == "Hello {{name}}!"  # type: ignore[index]  # as above
    assert data["prompt_version.created"]["tags"] == {"tone": "warm"}  # type: ignore[index]  # as above


def test_webhooks_are_got_listed_changed_tested_and_deleted(client: mlflow.MlflowClient) -> None:
    event = WebhookEvent.from_str("model_version_alias.created")
    with receiving() as receiver:
        made = client.create_webhook("one", receiver.url, [event], secret=SECRET)
        assert client.get_webhook(made.webhook_id).url == receiver.url
        assert [item.webhook_id for item in client.list_webhooks()] == [made.webhook_id]
        tried = client.test_webhook(made.webhook_id)
        assert (tried.success, tried.response_status, tried.response_body) == (True, 200, "fine")
        assert verified(receiver.heard[0])["data"] == get_example_payload_for_event(event)
        receiver.answers = [500]
        assert not client.test_webhook(made.webhook_id, "prompt.created").success
        changed = client.update_webhook(
            made.webhook_id, name="two", events=[WebhookEvent.from_str("prompt.created")], status="DISABLED"
        )
        assert (changed.name, str(changed.events[0]), changed.status) == ("two", "prompt.created", "DISABLED")
    client.delete_webhook(made.webhook_id)
    with pytest.raises(MlflowException) as missing:
        client.get_webhook(made.webhook_id)
    assert missing.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    with pytest.raises(MlflowException) as refused:
        client.create_webhook("inside", "http://169.254.169.254/latest/meta-data", [event])
    assert refused.value.error_code == "INVALID_PARAMETER_VALUE"
