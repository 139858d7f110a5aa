"""What is thought of traces: kept, changed, overridden, deleted; and holds, which keep traces. On both databases."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import event, select

from loopwright.core import Conflict, Invalid, NotFound, Scope, new_id
from loopwright.govern import StorageService
from loopwright.store import Stores
from loopwright.track import (
    AssessmentChange,
    AssessmentKind,
    ExperimentService,
    NewAssessment,
    NewTrace,
    RequestTraceService,
    RunService,
)
from loopwright.track.traces.tables import trace_assessments

START = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def traces(stores: Stores) -> RequestTraceService:
    return RequestTraceService(stores, Scope(actor="user:ada"))


@pytest.fixture
def experiment(traces: RequestTraceService) -> str:
    return ExperimentService(traces.stores, traces.scope).create("requests").id


def trace(traces: RequestTraceService, *assessments: NewAssessment, run: str = "") -> str:
    wanted = NewTrace(id=f"tr-{new_id()}", started_at=START, run=run, assessments=assessments)
    return traces.record("requests", wanted).id


def thought(name: str = "right", value: object = True, **more: object) -> NewAssessment:
    kind = AssessmentKind.FEEDBACK
    return NewAssessment(kind=kind, name=name, content={"value": value}, source_type="HUMAN", **more)  # type: ignore[arg-type]


def test_assessments_come_with_their_trace_oldest_first(traces: RequestTraceService, experiment: str) -> None:
    id = trace(traces, thought("early", 0.5))
    made = traces.assess(id, thought("late", {"a": [1, None]}, source_id="ann", span="s1", metadata={"k": "v"}))
    found = traces.get(id).assessments
    assert [item.name for item in found] == ["early", "late"]
    assert found[1] == made == traces.assessment(id, made.id)
    assert (made.content, made.source_id, made.span) == ({"value": {"a": [1, None]}}, "ann", "s1")
    assert (made.metadata, made.valid, made.trace) == ({"k": "v"}, True, id)
    assert traces.search([experiment]).traces[0].assessments == found


def test_a_trace_that_is_told_again_gets_no_second_copy(traces: RequestTraceService, experiment: str) -> None:
    wanted = NewTrace(id=f"tr-{new_id()}", started_at=START, assessments=(thought(),))
    traces.record(experiment, wanted)
    assert len(traces.record(experiment, wanted).assessments) == 1


def test_an_assessment_is_changed_and_its_source_stays(traces: RequestTraceService, experiment: str) -> None:
    id = trace(traces)
    made = traces.assess(id, thought(rationale="so", metadata={"a": "1", "b": "2"}))
    change = AssessmentChange(kind=AssessmentKind.FEEDBACK, content={"value": "no"}, metadata={"b": "3"})
    changed = traces.reassess(id, made.id, change)
    assert (changed.name, changed.content, changed.rationale) == ("right", {"value": "no"}, "so")
    assert changed.metadata == {"a": "1", "b": "3"}
    assert changed.updated_at > made.updated_at
    with pytest.raises(Invalid, match="expectation value on a feedback"):
        traces.reassess(id, made.id, AssessmentChange(kind=AssessmentKind.EXPECTATION, content={"value": 1}))
    with pytest.raises(Invalid):
        traces.reassess(id, made.id, AssessmentChange(name=""))


def test_what_is_overridden_counts_again_when_the_other_is_deleted(
    traces: RequestTraceService, experiment: str
) -> None:
    id = trace(traces)
    first = traces.assess(id, thought())
    second = traces.assess(id, thought(value=False, overrides=first.id))
    assert not traces.assessment(id, first.id).valid
    assert traces.delete_assessment(id, second.id)
    assert traces.assessment(id, first.id).valid
    assert not traces.delete_assessment(id, second.id)
    with pytest.raises(NotFound):
        traces.assess(id, thought(overrides=second.id))
    assert len(traces.get(id).assessments) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "x" * 251},
        {"value": "x" * 100_001},
        {"source_id": "x" * 251},
        {"rationale": "x" * 10_001},
        {"metadata": {"a": "\x00"}},
    ],
)
def test_what_cannot_be_stored_is_refused(
    traces: RequestTraceService, experiment: str, wrong: dict[str, object]
) -> None:
    id = trace(traces)
    with pytest.raises(Invalid):
        traces.assess(id, thought(**wrong))  # type: ignore[arg-type]  # that is what is tested
    assert traces.get(id).assessments == ()


def test_assessments_are_bounded_and_found_in_their_project_only(traces: RequestTraceService, experiment: str) -> None:
    id = trace(traces, *(thought(f"a{n}") for n in range(1000)))
    with pytest.raises(Invalid, match="too many"):
        traces.assess(id, thought())
    made = traces.get(id).assessments[0]
    other = RequestTraceService(traces.stores, Scope("other"))
    for ask in (other.assessment, other.delete_assessment):
        with pytest.raises(NotFound):
            ask(id, made.id)
    with pytest.raises(NotFound):
        other.assess(id, thought())


def test_assessments_go_with_their_trace(traces: RequestTraceService, experiment: str) -> None:
    id = trace(traces, thought())
    assert traces.delete(experiment, [id]) == 1
    with traces.stores.db.read() as connection:
        assert connection.execute(select(trace_assessments)).all() == []


def test_a_page_asks_for_assessments_once(traces: RequestTraceService, experiment: str) -> None:
    for _ in range(10):
        trace(traces, thought(), thought())
    asked: list[str] = []
    with traces.stores.db.read() as connection:
        event.listen(connection.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
        found = traces.search([experiment]).traces
    assert [len(item.assessments) for item in found] == [2] * 10
    assert len([text for text in asked if "FROM trace_assessments" in text]) == 1


def test_experiments_are_named_by_id_or_name_or_not_at_all(traces: RequestTraceService, experiment: str) -> None:
    id = trace(traces)
    for named in (["requests"], [experiment], None):
        assert [item.id for item in traces.search(named).traces] == [id]
    assert traces.search(["others"]).traces == traces.search([]).traces == []
    assert RequestTraceService(traces.stores, Scope("other")).search().traces == []


@pytest.mark.parametrize("held", ["run", "linked", "experiment", "experiment by name", "project"])
def test_a_trace_that_a_hold_needs_is_not_deleted(traces: RequestTraceService, experiment: str, held: str) -> None:
    runs = RunService(traces.stores, traces.scope)
    mine, other = (runs.start(experiment="requests").id for _ in range(2))
    id, free = trace(traces, run=mine), trace(traces)
    traces.link(other, [id])
    refs = {"run": f"run:{mine}", "linked": f"run:{other}", "experiment": f"experiment:{experiment}"}
    refs |= {"experiment by name": "experiment:requests", "project": "project:default"}
    storage = StorageService(traces.stores, traces.scope)
    hold = storage.hold(refs[held], "case 1")
    with pytest.raises(Conflict, match="a hold needs"):
        traces.delete(experiment, [free, id])
    with pytest.raises(Conflict, match="a hold needs"):
        traces.delete_before(experiment, START)
    assert len(traces.get_many([id, free])) == 2
    storage.release_hold(hold.id)
    assert traces.delete(experiment, [free, id]) == 2


def test_a_hold_on_what_came_from_a_run_keeps_the_traces_of_the_run(
    traces: RequestTraceService, experiment: str
) -> None:
    run = RunService(traces.stores, traces.scope).start(experiment="requests").id
    id = trace(traces, run=run)
    with traces.stores.db.begin() as tx:
        traces.stores.lineage.edge(tx, f"run:{run}", "model:delay@1", "output", "default")
    StorageService(traces.stores, traces.scope).hold("model:delay@1", "case 1")
    with pytest.raises(Conflict):
        traces.delete(experiment, [id])
