"""What happens in the registry, in the words of MLflow's webhooks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from loopwright.core import Invalid, NotFound, Scope
from loopwright.govern import Message
from loopwright.models import ModelService
from loopwright.server.protocols.mlflow.registry import PROMPT
from loopwright.store import Event, Stores

_TEXT = "mlflow.prompt.text"
_INTERNAL = frozenset({*PROMPT, _TEXT, "_mlflow_prompt_type"})
_SUBJECT = re.compile(r"model:(?P<name>[^@]+)(?:@(?P<version>\d+))?")

_MODEL_EXAMPLE = {"tags": {"example_key": "example_value"}, "description": "An example registered model"}
_EXAMPLES: dict[str, dict[str, Any]] = {
    "registered_model.created": _MODEL_EXAMPLE,
    "model_version.created": {
        "version": "1",
        "source": "models:/123",
        "run_id": "abcd1234abcd5678",
        "tags": {"example_key": "example_value"},
        "description": "An example model version",
    },
    "model_version_tag.set": {"version": "1", "key": "example_key", "value": "example_value"},
    "model_version_tag.deleted": {"version": "1", "key": "example_key"},
    "model_version_alias.created": {"alias": "example_alias", "version": "1"},
    "model_version_alias.deleted": {"alias": "example_alias"},
    "prompt.created": {**_MODEL_EXAMPLE, "description": "An example prompt"},
    "prompt_version.created": {
        "version": "1",
        "template": "Hello {{name}}!",
        "tags": {"example_key": "example_value"},
        "description": "An example prompt version",
    },
    "prompt_tag.set": {"key": "example_key", "value": "example_value"},
    "prompt_tag.deleted": {"key": "example_key"},
    "prompt_version_tag.set": {"version": "1", "key": "example_key", "value": "example_value"},
    "prompt_version_tag.deleted": {"version": "1", "key": "example_key"},
    "prompt_alias.created": {"alias": "example_alias", "version": "1"},
    "prompt_alias.deleted": {"alias": "example_alias"},
}
"""What MLflow calls the events that we have, each with an example of its data but for the name."""


class MlflowFormat:
    """MLflow's events, bodies and headers (MLflow 3.3 and later)."""

    def check(self, names: Sequence[str]) -> None:
        """Raises:
        Invalid: one of them is none of MLflow's, or one that never happens here.
        """
        for name in names:
            if name not in _EXAMPLES:
                raise Invalid(f"no event {name[:80]!r} happens here", next_step=f"use one of {', '.join(_EXAMPLES)}")

    def messages(self, stores: Stores, event: Event) -> list[Message]:
        """What MLflow's server would tell of the same change."""
        subject = _SUBJECT.fullmatch(event.subject)
        told = _TELLERS.get(event.kind)
        if subject is None or told is None:
            return []
        prompt = _is_prompt(stores, event, subject["name"])
        named = [(name, data) for name, data in told(event, prompt, subject["version"] or "") if name in _EXAMPLES]
        return [_message(name, event.at.isoformat(), {"name": subject["name"], **data}) for name, data in named]

    def example(self, name: str) -> Message:
        """MLflow's own example of an event."""
        example = "example_prompt" if name.startswith("prompt") else "example_model"
        return _message(name, "2026-01-01T00:00:00+00:00", {"name": example, **_EXAMPLES[name]})

    def headers(self, id: str, at: str, signature: str) -> dict[str, str]:
        """MLflow's headers; the signature is that of Standard Webhooks."""
        told = {"X-MLflow-Delivery-Id": id, "X-MLflow-Timestamp": at}
        return {**told, "X-MLflow-Signature": signature} if signature else told


Told = list[tuple[str, dict[str, Any]]]


def _message(name: str, at: str, data: dict[str, Any]) -> Message:
    entity, _, action = name.partition(".")
    return Message(name, {"entity": entity, "action": action, "timestamp": at, "data": data})


def _is_prompt(stores: Stores, event: Event, name: str) -> bool:
    """Whether a name is a prompt's. One that is gone meanwhile is known by its event, where that tells tags."""
    tags = event.evidence.get("tags")
    with suppress(NotFound):  # deleted or renamed since
        tags = ModelService(stores, Scope(event.project, event.actor)).named(name).tags
    return isinstance(tags, dict) and PROMPT.items() <= tags.items()


def _created(event: Event, prompt: bool, _version: str) -> Told:
    evidence = event.evidence
    tags = {key: value for key, value in evidence["tags"].items() if not (prompt and key in _INTERNAL)}
    name = "prompt.created" if prompt else "registered_model.created"
    return [(name, {"tags": tags, "description": evidence.get("description") or None})]


def _version_created(event: Event, prompt: bool, version: str) -> Told:
    tags, words = event.evidence.get("tags", {}), event.evidence.get("description") or None
    if prompt:
        kept = {key: value for key, value in tags.items() if key not in _INTERNAL}
        data = {"version": version, "template": tags.get(_TEXT), "tags": kept, "description": words}
        return [("prompt_version.created", data)]
    bundle = event.evidence.get("bundle")
    source = event.evidence.get("source") or (f"mlflow-artifacts:/bundles/{bundle}" if bundle else "")
    run = event.evidence.get("run") or None
    data = {"version": version, "source": source, "run_id": run, "tags": tags, "description": words}
    return [("model_version.created", data)]


def _tagged(event: Event, prompt: bool, version: str) -> Told:
    entity = "prompt_version_tag" if prompt else "model_version_tag"
    return [_tag(entity, {"version": version}, key, value) for key, value in event.evidence.get("changed", {}).items()]


def _model_tagged(event: Event, prompt: bool, _version: str) -> Told:
    """MLflow tells of tags of prompts only, not of those of registered models."""
    changed = event.evidence.get("changed", {}) if prompt else {}
    return [_tag("prompt_tag", {}, key, value) for key, value in changed.items()]


def _tag(entity: str, of: dict[str, Any], key: str, value: str | None) -> tuple[str, dict[str, Any]]:
    if value is None:
        return f"{entity}.deleted", {**of, "key": key}
    return f"{entity}.set", {**of, "key": key, "value": value}


def _alias_moved(event: Event, prompt: bool, version: str) -> Told:
    entity, alias = "prompt_alias" if prompt else "model_version_alias", event.evidence["alias"]
    if event.evidence["to"] is None:
        return [(f"{entity}.deleted", {"alias": alias})]
    return [(f"{entity}.created", {"alias": alias, "version": version})]


_TELLERS = {
    "model.created": _created,
    "model.version_created": _version_created,
    "model.version_annotated": _tagged,
    "model.annotated": _model_tagged,
    "model.alias_moved": _alias_moved,
}

MLFLOW = MlflowFormat()
