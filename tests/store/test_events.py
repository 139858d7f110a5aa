"""Events: written with the change, sealed in order, read by position."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection

from loopwright.core import Invalid, NotFound, Scope
from loopwright.store import Stores

SCOPE = Scope("flights", "user:ann", "event:0")


def append(stores: Stores, count: int, kind: str = "run.started", subject: str = "run:1", scope: Scope = SCOPE) -> None:
    with stores.db.begin() as tx:
        for number in range(count):
            stores.events.append(tx, kind, subject, scope, {"number": number, "share": 0.1})


def change_and_fail(stores: Stores, change: Callable[[Connection], Any]) -> None:
    with stores.db.begin() as tx:
        change(tx)
        raise ZeroDivisionError


def test_an_event_reads_back_as_it_was_written_with_its_position(stores: Stores) -> None:
    with stores.db.begin() as tx:
        written = stores.events.append(tx, "run.finished", "run:1", SCOPE, {"auc": 0.71, "of": ["a", None]}, "event:9")
    (read,) = stores.events.read()
    assert (read.position, len(read.hash)) == (1, 64)
    assert read == stores.events.get(written.ref)
    for field in ("id", "kind", "at", "recorded_at", "project", "actor", "subject", "cause", "evidence"):
        assert getattr(read, field) == getattr(written, field)
    assert read.cause == "event:9"


def test_the_scope_gives_the_cause_when_none_is_named(stores: Stores) -> None:
    append(stores, 1)
    assert stores.events.read()[0].cause == "event:0"


def test_an_event_of_an_undone_change_is_gone_with_it(stores: Stores) -> None:
    with pytest.raises(ZeroDivisionError):
        change_and_fail(stores, lambda tx: stores.events.append(tx, "run.started", "run:1", SCOPE))
    assert stores.events.read() == []


def test_positions_count_from_one_without_gaps_over_several_seals(stores: Stores) -> None:
    for _ in range(3):
        append(stores, 4)
        stores.events.seal(limit=3)
    assert [event.position for event in stores.events.read()] == list(range(1, 13))


def test_a_reader_that_keeps_its_position_sees_each_event_once(stores: Stores) -> None:
    seen, position = [], 0
    for _ in range(4):
        append(stores, 5)
        while page := stores.events.read(after=position, limit=3):
            seen += [event.id for event in page]
            position = page[-1].position or 0
    assert len(seen) == len(set(seen)) == 20


def test_reading_filters_by_kind_project_and_subject(stores: Stores) -> None:
    append(stores, 1, "run.started", "run:1")
    append(stores, 1, "run.failed", "run:2")
    append(stores, 1, "run.finished", "run:1", Scope("other"))
    kinds = ("run.failed", "run.finished")
    assert [event.kind for event in stores.events.read(kinds=kinds)] == list(kinds)
    assert [event.kind for event in stores.events.read(kinds=["run.failed"])] == ["run.failed"]
    assert [event.project for event in stores.events.read(project="other")] == ["other"]
    assert [event.kind for event in stores.events.read(subject="run:1")] == ["run.started", "run.finished"]


def test_latest_pages_backwards(stores: Stores) -> None:
    append(stores, 5)
    first = stores.events.latest(limit=2)
    second = stores.events.latest(limit=2, before=first[-1].position)
    assert [event.position for event in first + second] == [5, 4, 3, 2]


def test_a_cursor_starts_at_zero_and_moves_with_the_readers_transaction(stores: Stores) -> None:
    assert stores.events.cursor("controller") == 0
    with stores.db.begin() as tx:
        stores.events.save_cursor(tx, "controller", 7)
    with pytest.raises(ZeroDivisionError):
        change_and_fail(stores, lambda tx: stores.events.save_cursor(tx, "controller", 9))
    assert (stores.events.cursor("controller"), stores.events.cursor("webhooks")) == (7, 0)


def test_a_kind_of_another_form_is_refused(stores_sqlite: Stores) -> None:
    for kind in ("run", "Run.started", "run.started.twice", "run.started; drop"):
        with pytest.raises(Invalid, match="is not a kind of event"), stores_sqlite.db.begin() as tx:
            stores_sqlite.events.append(tx, kind, "run:1", SCOPE)


def test_an_unknown_event_is_not_found(stores_sqlite: Stores) -> None:
    with pytest.raises(NotFound, match="there is no event"):
        stores_sqlite.events.get("event:" + "0" * 32)


def test_reading_inside_a_change_shows_what_was_sealed_before_and_does_not_wait(stores: Stores) -> None:
    append(stores, 2)
    assert len(stores.events.read()) == 2
    with stores.db.begin() as tx:
        stores.events.append(tx, "run.started", "run:1", SCOPE)
        assert len(stores.events.read()) == 2
    assert len(stores.events.read()) == 3
