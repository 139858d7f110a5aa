"""The hash chain: an event that was edited, removed or reordered is found, and the first bad one is named."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopwright.core import Scope
from loopwright.store import Event, Stores
from loopwright.store.events.chain import GENESIS, Head, Link, extend, follow

SCOPE = Scope("flights", "user:ann")


def link(number: int, kind: str = "run.started") -> Link:
    return Link(f"{number:032x}", kind, number, number, "p", "user:a", "run:1", "", "{}", None, "")


def sealed(count: int) -> list[Link]:
    links = [link(number) for number in range(count)]
    ends = extend(Head(), links)
    return [
        msgspec.structs.replace(item, position=end.position, hash=end.hash)
        for item, end in zip(links, ends, strict=True)
    ]


@given(st.integers(0, 20), st.integers(0, 20))
def test_a_chain_sealed_in_parts_is_the_chain_sealed_at_once(first: int, second: int) -> None:
    links = [link(number) for number in range(first + second)]
    head = extend(Head(), links[:first])[-1] if first else Head()
    assert extend(Head(), links)[first:] == extend(head, links[first:])


@given(st.integers(0, 20))
def test_a_chain_as_sealed_is_whole(count: int) -> None:
    links = sealed(count)
    head, fault = follow(Head(), links)
    assert fault is None
    assert head == (Head(count, links[-1].hash) if count else Head(0, GENESIS))


@given(st.integers(1, 12), st.data())
def test_any_edited_field_is_found_at_its_event(count: int, data: st.DataObject) -> None:
    links = sealed(count)
    at = data.draw(st.integers(0, count - 1))
    field = data.draw(st.sampled_from(Link.__struct_fields__[:9]))
    value = 987_654 if field in ("at", "recorded_at") else "edited"
    links[at] = msgspec.structs.replace(links[at], **{field: value})
    head, fault = follow(Head(), links)
    assert fault is not None
    assert fault.link == links[at]
    assert head.position == at


@pytest.mark.slow
@given(st.integers(2, 12), st.data())
def test_two_events_that_changed_places_are_found_at_the_first(count: int, data: st.DataObject) -> None:
    links = sealed(count)
    one, other = sorted(data.draw(st.sets(st.integers(0, count - 1), min_size=2, max_size=2)))
    swap = msgspec.structs.replace
    links[one], links[other] = (
        swap(links[other], position=links[one].position),
        swap(links[one], position=links[other].position),
    )
    head, fault = follow(Head(), links)
    assert fault is not None
    assert (fault.link, head.position) == (links[one], one)


@pytest.fixture
def log(stores: Stores) -> list[Event]:
    """Ten sealed events."""
    with stores.db.begin() as tx:
        for number in range(10):
            stores.events.append(tx, "run.started", f"run:{number}", SCOPE, {"number": number, "share": 1 / 3})
    return stores.events.read()


def tamper(stores: Stores, statement: str) -> None:
    with stores.db.begin() as tx:
        tx.exec_driver_sql(statement)


def test_a_log_that_nobody_touched_is_whole(stores: Stores, log: list[Event]) -> None:
    report = stores.events.verify()
    assert (report.ok, report.events, report.head, report.problem) == (True, 10, log[-1].hash, "")


def test_an_empty_log_is_whole(stores: Stores) -> None:
    report = stores.events.verify()
    assert (report.ok, report.events) == (True, 0)


@pytest.mark.parametrize(
    "change",
    [
        "actor = 'user:eve'",
        "at = at + 1",
        "recorded_at = recorded_at - 1",
        'evidence = \'{"number":3,"share":0.9}\'',
        "evidence = ' ' || evidence",
        "kind = 'run.failed'",
        "subject = 'run:99'",
        "cause = 'event:1'",
        "project = 'other'",
        "hash = '" + "0" * 64 + "'",
    ],
)
def test_an_edited_event_is_named(stores: Stores, log: list[Event], change: str) -> None:
    tamper(stores, f"UPDATE events SET {change} WHERE position = 4")
    report = stores.events.verify()
    assert not report.ok
    assert report.first_bad is not None
    assert (report.first_bad.id, report.events) == (log[3].id, 3)
    assert f"event {log[3].id} at position 4 is not what was sealed" in report.problem


def test_a_removed_event_is_told_and_the_one_behind_it_named(stores: Stores, log: list[Event]) -> None:
    tamper(stores, "DELETE FROM events WHERE position IN (4, 5)")
    report = stores.events.verify()
    assert (report.ok, report.events, report.first_bad) == (False, 3, log[5])
    assert "events are missing" in report.problem
    assert report.problem.endswith("position 4 to 5")


def test_a_removed_event_whose_gap_was_closed_is_told(stores: Stores, log: list[Event]) -> None:
    tamper(stores, "DELETE FROM events WHERE position = 4")
    for position in range(5, 11):
        tamper(stores, f"UPDATE events SET position = position - 1 WHERE position = {position}")
    report = stores.events.verify()
    assert report.first_bad is not None
    assert (report.ok, report.first_bad.id) == (False, log[4].id)


def test_removed_newest_events_are_told(stores: Stores, log: list[Event]) -> None:
    tamper(stores, "DELETE FROM events WHERE position > 8")
    report = stores.events.verify()
    assert (report.ok, report.events, report.first_bad) == (False, 8, None)
    assert "the newest events are missing: position 9 to 10" in report.problem


def test_new_events_cannot_hide_that_the_newest_were_removed(stores: Stores, log: list[Event]) -> None:
    tamper(stores, "DELETE FROM events WHERE position > 8")
    with stores.db.begin() as tx:
        later = stores.events.append(tx, "run.started", "run:11", SCOPE)
    report = stores.events.verify()
    assert report.first_bad is not None
    assert (report.ok, report.first_bad.id) == (False, later.id)


def test_two_reordered_events_are_told_at_the_first(stores: Stores, log: list[Event]) -> None:
    for change in ("-1 WHERE position = 3", "3 WHERE position = 7", "7 WHERE position = -1"):
        tamper(stores, f"UPDATE events SET position = {change}")
    report = stores.events.verify()
    assert report.first_bad is not None
    assert (report.ok, report.first_bad.id, report.events) == (False, log[6].id, 2)


def test_an_event_slipped_in_before_the_first_is_told(stores: Stores, log: list[Event]) -> None:
    columns = "kind, at, recorded_at, project, actor, subject, cause, evidence"
    tamper(
        stores,
        f"INSERT INTO events (id, {columns}, position, hash) SELECT 'x', {columns}, 0, hash "
        "FROM events WHERE position = 1",
    )
    report = stores.events.verify()
    assert report.first_bad is not None
    assert (report.ok, report.first_bad.id) == (False, "x")
