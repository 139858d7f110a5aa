"""Webhooks over MLflow's protocol, and our events in MLflow's words."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.govern.receiving import Receiver, receiving
from tests.server.protocols.mlflow.conftest import API, Server

from loopwright.core import Settings
from loopwright.govern import WebhookSender
from loopwright.models import ModelService
from loopwright.workspace import WEBHOOK_FORMATS

CREATED = {"entity": "REGISTERED_MODEL", "action": "CREATED"}
ALL = [
    {"entity": entity, "action": action}
    for entity, actions in {
        "REGISTERED_MODEL": ["CREATED"],
        "MODEL_VERSION": ["CREATED"],
        "MODEL_VERSION_TAG": ["SET", "DELETED"],
        "MODEL_VERSION_ALIAS": ["CREATED", "DELETED"],
        "PROMPT": ["CREATED"],
        "PROMPT_VERSION": ["CREATED"],
        "PROMPT_TAG": ["SET", "DELETED"],
        "PROMPT_VERSION_TAG": ["SET", "DELETED"],
        "PROMPT_ALIAS": ["CREATED", "DELETED"],
    }.items()
    for action in actions
]


@pytest.fixture
def receiver(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    stores = server.workspace.stores
    location = stores.location.__class__(stores.root, stores.data, Settings(outgoing_allow=("127.0.0.1",)))
    monkeypatch.setattr(stores, "location", location)
    with receiving() as found:
        yield found


def told(server: Server, receiver: Receiver) -> list[tuple[str, dict[str, object]]]:
    """What the receiver has heard, once all of it is sent."""
    WebhookSender(server.workspace.stores, WEBHOOK_FORMATS).turn()
    bodies = [json.loads(heard.body) for heard in receiver.heard]
    return [(f"{body['entity']}.{body['action']}", body["data"]) for body in bodies]


def test_changes_of_models_are_told_in_mlflows_words(server: Server, receiver: Receiver) -> None:
    server.post("webhooks", name="all", url=receiver.url, events=ALL)
    models: ModelService = server.workspace.models
    models.create("delay", tags={"team": "ops"}, description="late flights")
    server.post("model-versions/create", name="delay", source="s3://b/m", tags=[{"key": "a", "value": "1"}])
    models.tag_version("model:delay@1", {"b": "2", "a": None})
    models.set_alias("delay", "champion", 1)
    models.remove_alias("delay", "champion")
    models.describe("delay", tags={"team": "ml"})
    models.transition("model:delay@1", "Staging")  # type: ignore[arg-type]  # its text will do
    assert told(server, receiver) == [
        ("registered_model.created", {"name": "delay", "tags": {"team": "ops"}, "description": "late flights"}),
        (
            "model_version.created",
            {
                "name": "delay",
                "version": "1",
                "source": "s3://b/m",
                "run_id": None,
                "tags": {"a": "1"},
                "description": None,
            },
        ),
        ("model_version_tag.deleted", {"name": "delay", "version": "1", "key": "a"}),
        ("model_version_tag.set", {"name": "delay", "version": "1", "key": "b", "value": "2"}),
        ("model_version_alias.created", {"name": "delay", "alias": "champion", "version": "1"}),
        ("model_version_alias.deleted", {"name": "delay", "alias": "champion"}),
    ]


def test_changes_of_prompts_are_told_apart(server: Server, receiver: Receiver) -> None:
    server.post("webhooks", name="all", url=receiver.url, events=ALL)
    models: ModelService = server.workspace.models
    prompt = {"mlflow.prompt.is_prompt": "true", "_mlflow_prompt_type": "text"}
    models.create("greet", tags={**prompt, "team": "ops"})
    tags = {**prompt, "mlflow.prompt.text": "Hello {{name}}!", "tone": "warm"}
    pairs = [{"key": key, "value": value} for key, value in tags.items()]
    server.post("model-versions/create", name="greet", source="dummy-source", tags=pairs)
    models.tag_version("model:greet@1", {"tone": "cold"})
    models.describe("greet", tags={"team": "ml"})
    models.describe("greet", tags={"team": None})
    models.set_alias("greet", "live", 1)
    assert told(server, receiver) == [
        ("prompt.created", {"name": "greet", "tags": {"team": "ops"}, "description": None}),
        (
            "prompt_version.created",
            {
                "name": "greet",
                "version": "1",
                "template": "Hello {{name}}!",
                "tags": {"tone": "warm"},
                "description": None,
            },
        ),
        ("prompt_version_tag.set", {"name": "greet", "version": "1", "key": "tone", "value": "cold"}),
        ("prompt_tag.set", {"name": "greet", "key": "team", "value": "ml"}),
        ("prompt_tag.deleted", {"name": "greet", "key": "team"}),
        ("prompt_alias.created", {"name": "greet", "alias": "live", "version": "1"}),
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"events": []},
        {"events": [{"entity": "BUDGET_POLICY", "action": "EXCEEDED"}]},
        {"events": [{"entity": "REGISTERED_MODEL", "action": "DELETED"}]},
        {"name": "two words"},
        {"url": "http://169.254.169.254/latest"},
        {"url": "https://10.0.0.1/"},
        {"status": "ASLEEP"},
    ],
)
def test_what_cannot_be_one_is_refused_as_mlflow_does(server: Server, wrong: dict[str, object]) -> None:
    given = {"name": "w", "url": "https://example.org/", "events": [CREATED], **wrong}
    assert server.refused("webhooks", **given)[:2] == (400, "INVALID_PARAMETER_VALUE")
    assert server.get("webhooks")["webhooks"] == []


def test_a_webhook_is_got_listed_changed_and_deleted(server: Server, receiver: Receiver) -> None:
    made = [server.post("webhooks", name=f"w{n}", url=receiver.url, events=[CREATED], secret="s") for n in range(3)]
    ids = [one["webhook"]["webhook_id"] for one in made]
    server.workspace.webhooks.create("ours", receiver.url, ["alert.*"])
    page = server.get("webhooks", max_results=2)
    rest = server.get("webhooks", max_results=2, page_token=page["next_page_token"])
    assert [item["webhook_id"] for item in page["webhooks"] + rest["webhooks"]] == ids[::-1]
    changed = server.ask("PATCH", f"webhooks/{ids[0]}", "", {"description": "now", "status": "DISABLED"}).json()
    assert changed == server.get(f"webhooks/{ids[0]}")
    assert (changed["webhook"]["status"], changed["webhook"]["description"]) == ("DISABLED", "now")
    assert "secret" not in json.dumps([made, page, changed])
    assert server.http.delete(f"{API}/webhooks/{ids[0]}").json() == {}
    missing = server.http.get(f"{API}/webhooks/{ids[0]}")
    assert (missing.status_code, missing.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


def test_a_trial_sends_mlflows_example(server: Server, receiver: Receiver) -> None:
    made = server.post("webhooks", name="w", url=receiver.url, events=[CREATED])["webhook"]["webhook_id"]
    told = server.post(f"webhooks/{made}/test")["result"]
    assert told == {"success": True, "response_status": 200, "response_body": "fine"}
    assert json.loads(receiver.heard[0].body)["data"]["name"] == "example_model"
    event = {"entity": "PROMPT_VERSION", "action": "CREATED"}
    server.post(f"webhooks/{made}/test", event=event)
    assert json.loads(receiver.heard[1].body)["entity"] == "prompt_version"
