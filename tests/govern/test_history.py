import pytest

from loopwright.core import Invalid, NotFound, Scope
from loopwright.govern import EVERY_PROJECT, HistoryService
from loopwright.store import Event, Stores


@pytest.fixture
def events(stores: Stores) -> list[Event]:
    made = []
    with stores.db.begin() as tx:
        for number, project in enumerate(["a", "b", "a", "a"]):
            kind = "run.started" if number % 2 == 0 else "run.finished"
            made.append(stores.events.append(tx, kind, f"run:{number}", Scope(project, "user:x")))
    return made


def test_a_project_reads_its_own_events_in_order(stores: Stores, events: list[Event]) -> None:
    history = HistoryService(stores, Scope("a"))
    assert [event.id for event in history.list()] == [events[0].id, events[2].id, events[3].id]
    assert [event.id for event in history.latest(limit=2)] == [events[3].id, events[2].id]
    assert [event.id for event in history.list(kinds=("run.finished",))] == [events[3].id]
    assert [event.id for event in history.latest(subject="run:2")] == [events[2].id]


def test_pages_go_on_where_the_last_ended(stores: Stores, events: list[Event]) -> None:
    history = HistoryService(stores, Scope("a"))
    newest = history.latest(limit=1)
    assert [event.id for event in history.latest(before=newest[0].position)] == [events[2].id, events[0].id]
    assert [event.id for event in history.list(after=newest[0].position or 0)] == []


def test_the_whole_workspace_sees_all_projects(stores: Stores, events: list[Event]) -> None:
    everywhere = HistoryService(stores, Scope(EVERY_PROJECT))
    assert len(everywhere.list()) == 4
    assert everywhere.head() == 4


def test_an_event_of_another_project_is_not_found(stores: Stores, events: list[Event]) -> None:
    with pytest.raises(NotFound):
        HistoryService(stores, Scope("a")).get(events[1].id)
    assert HistoryService(stores, Scope("b")).get(f"event:{events[1].id}").id == events[1].id


def test_the_chain_is_verified(stores: Stores, events: list[Event]) -> None:
    report = HistoryService(stores, Scope("a")).verify()
    assert (report.ok, report.events) == (True, 4)


@pytest.mark.parametrize("limit", [0, -1, 10_001])
def test_an_unbounded_page_is_refused(stores: Stores, limit: int) -> None:
    with pytest.raises(Invalid, match=str(limit)):
        HistoryService(stores, Scope("a")).list(limit=limit)
    with pytest.raises(Invalid, match="after"):
        HistoryService(stores, Scope("a")).list(after=-1)
