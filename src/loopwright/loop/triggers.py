"""When a loop starts: pure functions of events, times and what already runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from loopwright.core import parse_ref
from loopwright.loop.model import AnyTrigger, Every, Loop, OnAlert, OnNewVersion, ParamValue

if TYPE_CHECKING:
    from loopwright.store import Event

ALERT_OPENED = "alert.opened"
ALERT_CLOSED = "alert.closed"
VERSION_CREATED = "dataset.version_created"
PLACEHOLDERS = frozenset({"now", "loop", "cause"})
_PLACEHOLDER = re.compile(r"\{([A-Za-z_]+)\}")


def wants(trigger: AnyTrigger, event: Event) -> bool:
    """Whether the event starts a loop with this trigger."""
    match trigger:
        case OnAlert(monitor, about):
            return (
                event.kind == ALERT_OPENED
                and event.evidence.get("monitor") == monitor
                and (not about or event.evidence.get("about") == about)
            )
        case OnNewVersion(dataset):
            return event.kind == VERSION_CREATED and parse_ref(event.subject, "dataset").name == dataset
        case _:
            return False


def due_at(trigger: Every, since: datetime) -> datetime:
    """When a timer fires that last fired, or was declared, at `since`."""
    return since + timedelta(seconds=trigger.seconds)


def must_wait(loop: Loop, active: int, last_ended_at: datetime | None, now: datetime) -> str:
    """Why a trigger has to wait; empty if the loop may start.

    Args:
        loop: the loop.
        active: how many of its runs are under way.
        last_ended_at: when its last run ended, if one has.
        now: the workspace's time.
    """
    if active >= loop.max_concurrent:
        return f"{active} of at most {loop.max_concurrent} runs are under way"
    if last_ended_at is not None:
        free_at = last_ended_at + timedelta(seconds=loop.cooldown_s)
        if now < free_at:
            return f"the loop cools down until {free_at.isoformat()}"
    return ""


def unknown_placeholders(text: str) -> set[str]:
    """The `{names}` in a parameter that nobody fills."""
    return set(_PLACEHOLDER.findall(text)) - PLACEHOLDERS


def fill(params: Mapping[str, ParamValue], values: Mapping[str, str]) -> dict[str, ParamValue]:
    """The parameters with `{now}`, `{loop}` and `{cause}` in their texts replaced by `values`."""

    def one(value: ParamValue) -> ParamValue:
        if not isinstance(value, str):
            return value
        return _PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), value)

    return {name: one(value) for name, value in params.items()}
