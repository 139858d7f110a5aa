"""Formats: what an event is called and looks like outside. The one here is ours; others are named by whoever opens
the workspace, as `module:attribute`, and loaded when they are needed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import import_module
from typing import Protocol

import msgspec

from loopwright.core import Invalid
from loopwright.govern.webhooks.model import Message
from loopwright.store import Event, Stores

NATIVE = "loopwright"
_PATTERN = re.compile(r"\*|[a-z][a-z_]*\.(\*|[a-z][a-z_]*)")


class Format(Protocol):
    """How messages of one kind look. Pure but for look-ups; used by several threads."""

    def check(self, names: Sequence[str]) -> None:
        """Raises:
        Invalid: one of these names is none that can be subscribed to.
        """
        ...

    def messages(self, stores: Stores, event: Event) -> list[Message]:
        """What an event is to those who subscribe; nothing, if it is nothing to them."""
        ...

    def example(self, name: str) -> Message:
        """A message of that name with made-up content, to try a receiver with."""
        ...

    def headers(self, id: str, at: str, signature: str) -> dict[str, str]:
        """The headers that tell the delivery's id, the second of the attempt, and the signature (empty: none)."""
        ...


class NativeFormat:
    """The event itself, in the frame of Standard Webhooks (standardwebhooks.com, 2023)."""

    def check(self, names: Sequence[str]) -> None:
        """Kinds of events, such as `run.failed`; `alert.*` and `*` stand for several."""
        for name in names:
            if not _PATTERN.fullmatch(name):
                raise Invalid(f"{name[:80]!r} is no kind of event", next_step="use run.failed, alert.* or *")

    def messages(self, stores: Stores, event: Event) -> list[Message]:
        return [Message(event.kind, _framed(event))]

    def example(self, name: str) -> Message:
        kind = "webhook.test" if "*" in name else name
        now = datetime.now(UTC)
        return Message(kind, _framed(Event("0" * 32, kind, now, now, "default", "user:example", "example:0")))

    def headers(self, id: str, at: str, signature: str) -> dict[str, str]:
        told = {"webhook-id": id, "webhook-timestamp": at}
        return {**told, "webhook-signature": signature} if signature else told


def _framed(event: Event) -> dict[str, object]:
    return {"type": event.kind, "timestamp": event.at.isoformat(), "data": msgspec.to_builtins(event)}


class Formats:
    """Formats by name."""

    def __init__(self, others: Mapping[str, str]) -> None:
        """Args: others: by name, where a format is: `module:attribute`."""
        self._others = dict(others)
        self._loaded: dict[str, Format] = {NATIVE: NativeFormat()}

    def get(self, name: str) -> Format:
        """Raises:
        Invalid: there is none of that name.
        """
        if name not in self._loaded:
            if name not in self._others:
                known = ", ".join([NATIVE, *self._others])
                raise Invalid(f"there is no format {name[:40]!r} of webhooks", next_step=f"use one of {known}")
            module, _, attribute = self._others[name].partition(":")
            self._loaded[name] = getattr(import_module(module), attribute)
        return self._loaded[name]


def subscribed(patterns: Sequence[str], name: str) -> bool:
    """Whether one of the patterns means this name."""
    return not {"*", name, f"{name.partition('.')[0]}.*"}.isdisjoint(patterns)


def sign(secret: str, id: str, at: str, body: str) -> str:
    """The signature of Standard Webhooks, and of MLflow: `v1,` and the HMAC-SHA256 of id, time and body in base64.

    The secret's text is the key. The time is a part of it, so that a receiver can refuse what is old.
    """
    told = hmac.new(secret.encode(), f"{id}.{at}.{body}".encode(), hashlib.sha256).digest()
    return f"v1,{base64.b64encode(told).decode('ascii')}"
