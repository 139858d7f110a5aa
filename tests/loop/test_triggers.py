"""When a loop starts, and when it has to wait."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from loopwright.loop import Every, Loop, Manual, OnAlert, OnNewVersion
from loopwright.loop.model import AnyTrigger
from loopwright.loop.triggers import due_at, fill, must_wait, unknown_placeholders, wants
from loopwright.store import Event

NOW = datetime(2013, 6, 1, tzinfo=UTC)


def event(kind: str, subject: str, **evidence: Any) -> Event:
    return Event("0" * 32, kind, NOW, NOW, "default", "controller", subject, evidence=evidence)


@pytest.mark.parametrize(
    ("trigger", "told", "wanted"),
    [
        (OnAlert("delay"), event("alert.opened", "alert:x", monitor="delay", about="drift"), True),
        (OnAlert("delay"), event("alert.opened", "alert:x", monitor="other"), False),
        (OnAlert("delay"), event("alert.closed", "alert:x", monitor="delay"), False),
        (OnAlert("delay", "drift"), event("alert.opened", "alert:x", monitor="delay", about="drift"), True),
        (OnAlert("delay", "drift"), event("alert.opened", "alert:x", monitor="delay", about="performance"), False),
        (OnNewVersion("flights"), event("dataset.version_created", "dataset:flights@3"), True),
        (OnNewVersion("flights"), event("dataset.version_created", "dataset:flights_old@3"), False),
        (Manual(), event("alert.opened", "alert:x", monitor="delay"), False),
        (Every(60), event("alert.opened", "alert:x", monitor="delay"), False),
    ],
)
def test_a_loop_wakes_for_what_it_declared(trigger: AnyTrigger, told: Event, wanted: bool) -> None:
    assert wants(trigger, told) is wanted


def test_a_trigger_waits_for_running_runs_and_for_the_cooldown() -> None:
    loop = Loop(name="a", endpoint="e", model="m", pipeline="a:b", cooldown_s=3600, max_concurrent=1)
    assert must_wait(loop, 0, None, NOW) == ""
    assert "1 of at most 1" in must_wait(loop, 1, None, NOW)
    assert "cools down" in must_wait(loop, 0, NOW - timedelta(minutes=59), NOW)
    assert must_wait(loop, 0, NOW - timedelta(minutes=60), NOW) == ""


def test_a_timer_counts_from_its_last_start() -> None:
    assert due_at(Every(60), NOW) == NOW + timedelta(minutes=1)


def test_parameters_are_filled_in_texts_only() -> None:
    given = {"until": "before {now}", "days": 90, "json": '{"a": 1}', "odd": "{else}"}
    assert fill(given, {"now": "2013"}) == {"until": "before 2013", "days": 90, "json": '{"a": 1}', "odd": "{else}"}
    assert unknown_placeholders("{now} {loop} {cause}") == set()
    assert unknown_placeholders("{noon}") == {"noon"}
