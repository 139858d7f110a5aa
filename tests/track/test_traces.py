"""Traces: kept, told more of, found, linked, deleted and collected; on both databases."""

from __future__ import annotations

import io
import os
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event

from loopwright.core import Conflict, Invalid, NotFound, Scope, new_id
from loopwright.govern import StorageService
from loopwright.store import Stores
from loopwright.track import ArtifactService, ExperimentService, NewTrace, RequestTraceService, RunService, TraceState
from loopwright.track.files.tables import kept_files
from loopwright.track.traces.model import NAME_TAG
from loopwright.workspace import holding_rooms

START = datetime(2026, 11, 22, 12, 0, 0, 250_000, tzinfo=UTC)
START_MS = int(START.timestamp() * 1000)


@pytest.fixture
def traces(stores: Stores) -> RequestTraceService:
    return RequestTraceService(stores, Scope(actor="user:ada"))


@pytest.fixture
def experiment(traces: RequestTraceService) -> str:
    return ExperimentService(traces.stores, traces.scope).create("requests").id


def new(seconds: int = 0, **more: object) -> NewTrace:
    return NewTrace(id=f"tr-{new_id()}", started_at=START + timedelta(seconds=seconds), **more)  # type: ignore[arg-type]


def test_a_trace_keeps_what_it_was_told_with(traces: RequestTraceService, experiment: str) -> None:
    wanted = new(
        duration_ms=1250,
        state=TraceState.OK,
        run="r" * 32,
        client_request="req 1",
        request_preview="what?",
        response_preview="that",
        tags={NAME_TAG: "answer", "team": "ops"},
        metadata={"user": "ann"},
    )
    made = traces.record("requests", wanted)
    assert made == traces.get(wanted.id)
    assert (made.experiment_id, made.name, made.actor, made.state) == (experiment, "answer", "user:ada", TraceState.OK)
    assert (made.started_at, made.duration_ms, made.run) == (START, 1250, "r" * 32)
    assert (made.request_preview, made.response_preview, made.client_request) == ("what?", "that", "req 1")
    assert (made.tags, made.metadata) == ({NAME_TAG: "answer", "team": "ops"}, {"user": "ann"})


def test_what_is_told_later_is_added(traces: RequestTraceService, experiment: str) -> None:
    first = new(state=TraceState.RUNNING, tags={"a": "1", "b": "1"}, metadata={"x": "1"})
    traces.record(experiment, first)
    later = NewTrace(
        id=first.id, started_at=START, state=TraceState.ERROR, duration_ms=3, tags={"b": "2"}, metadata={"y": "2"}
    )
    found = traces.record(experiment, later)
    assert (found.state, found.duration_ms, found.tags) == (TraceState.ERROR, 3, {"a": "1", "b": "2"})
    assert found.metadata == {"x": "1", "y": "2"}
    assert len(traces.search([experiment]).traces) == 1


def test_tags_come_and_go(traces: RequestTraceService, experiment: str) -> None:
    id = traces.record(experiment, new(tags={"a": "1"})).id
    assert traces.set_tags(id, {"a": "2", "b/c": "é"}).tags == {"a": "2", "b/c": "é"}
    traces.delete_tag(id, "a")
    assert traces.get(id).tags == {"b/c": "é"}
    with pytest.raises(NotFound, match="No trace tag with key 'a'"):
        traces.delete_tag(id, "a")
    with pytest.raises(Invalid, match="10,000"):
        traces.set_tags(id, {"long": "x" * 10_001})


def test_a_trace_belongs_to_one_experiment_of_one_project(traces: RequestTraceService, experiment: str) -> None:
    wanted = new()
    traces.record(experiment, wanted)
    experiments = ExperimentService(traces.stores, traces.scope)
    with pytest.raises(Conflict, match="another experiment"):
        traces.record(experiments.create("others").id, wanted)
    elsewhere = RequestTraceService(traces.stores, Scope("elsewhere"))
    other = ExperimentService(traces.stores, Scope("elsewhere")).create("requests").id
    with pytest.raises(Conflict, match="another experiment"):
        elsewhere.record(other, wanted)
    for ask in (elsewhere.get, lambda id: elsewhere.set_tags(id, {"a": "1"}), lambda id: elsewhere.delete_tag(id, "a")):
        with pytest.raises(NotFound, match="not found"):
            ask(wanted.id)
    assert elsewhere.search([experiment]).traces == elsewhere.get_many([wanted.id]) == []
    assert elsewhere.delete(experiment, [wanted.id]) == 0
    experiments.delete(experiment)
    with pytest.raises(Conflict, match="is deleted"):
        traces.record(experiment, new())
    with pytest.raises(NotFound, match="no experiment"):
        traces.record("nowhere", new())


@pytest.mark.parametrize(
    "wrong",
    [
        NewTrace(id="tr-../../etc", started_at=START),
        NewTrace(id="x", started_at=START),
        new(duration_ms=-1),
        new(duration_ms=1 << 60),
        NewTrace(id=f"tr-{new_id()}", started_at=datetime(2026, 11, 22)),  # noqa: DTZ001  (it has no zone)
        new(run="r" * 33),
        new(request_preview="\x00"),
        new(tags={"": "1"}),
        new(metadata={"a": "x" * 10_001}),
    ],
)
def test_what_cannot_be_stored_is_refused_whole(traces: RequestTraceService, experiment: str, wrong: NewTrace) -> None:
    with pytest.raises(Invalid):
        traces.record(experiment, wrong)
    assert traces.search([experiment]).traces == []


@pytest.fixture
def five(traces: RequestTraceService, experiment: str) -> list[str]:
    """Five traces, the oldest first; the fifth has neither name nor duration."""
    states = [TraceState.OK, TraceState.ERROR, TraceState.OK, TraceState.RUNNING, TraceState.UNKNOWN]
    return [
        traces.record(
            experiment,
            new(
                number,
                state=state,
                duration_ms=100 * number if number < 4 else None,
                run="r" * 32 if number % 2 else "",
                tags={NAME_TAG: f"step {9 - number}"} if number < 4 else {},
                metadata={"user": "ann" if number < 2 else "Bob"},
            ),
        ).id
        for number, state in enumerate(states)
    ]


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ("", "43210"),
        ("attributes.status = 'OK'", "20"),
        ("trace.status IN ('ERROR', 'IN_PROGRESS')", "31"),
        ("status != 'STATE_UNSPECIFIED'", "3210"),
        ("state ILIKE 'O%'", "20"),
        ("name = 'step 8'", "1"),
        ("attributes.name LIKE 'step %'", "3210"),
        ("tags.`mlflow.traceName` = 'step 7'", "2"),
        ("metadata.user = 'ann'", "10"),
        ("request_metadata.user ILIKE 'b%' AND execution_time_ms >= 200", "32"),
        ("metadata.other IS NULL and tags.`mlflow.traceName` IS NULL", "4"),
        ("execution_time < 200", "10"),
        (f"timestamp_ms > {START_MS + 1000} and timestamp <= {START_MS + 3000}", "32"),
        (f"timestamp_ms = {START_MS}", "0"),
        (f"attributes.run_id = '{'r' * 32}'", "31"),
        (f"attributes.run_id != '{'s' * 32}'", "31"),
        ("run_id = ''", ""),
    ],
)
def test_traces_are_found_by_filter(
    traces: RequestTraceService, experiment: str, five: list[str], filter: str, expected: str
) -> None:
    found = [five.index(trace.id) for trace in traces.search([experiment], filter).traces]
    assert "".join(map(str, found)) == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (["timestamp_ms ASC"], "01234"),
        (["name"], "32104"),
        (["name DESC"], "01234"),
        (["execution_time DESC"], "32104"),
        (["execution_time"], "01234"),
        (["status", "timestamp"], "10234"),
        (["metadata.user", "timestamp DESC"], "43210"),
        (["tags.missing"], "43210"),
    ],
)
@pytest.mark.parametrize("limit", [1, 2, 5])
def test_each_page_goes_on_where_the_one_before_ended(
    traces: RequestTraceService, experiment: str, five: list[str], order: list[str], expected: str, limit: int
) -> None:
    found, after = [], ""
    for _ in range(6):
        page = traces.search([experiment], order_by=order, limit=limit, after=after)
        found += [five.index(trace.id) for trace in page.traces]
        after = page.next
        if not after:
            break
    assert "".join(map(str, found)) == expected


@pytest.mark.parametrize(
    "wrong",
    [
        {"filter": "metrics.x > 1"},
        {"filter": "status > 'OK'"},
        {"filter": "span.nothing = 'x'"},
        {"filter": "name = 'a' OR name = 'b'"},
        {"filter": "("},
        {"filter": "tags.a = 'x'; DROP TABLE traces"},
        {"order_by": ["nothing"]},
        {"order_by": ["name", "name DESC"]},
        {"limit": 0},
        {"limit": 1001},
        {"after": "x"},
        {"after": "3q2-7w=="},
    ],
)
def test_a_malformed_search_is_refused(traces: RequestTraceService, experiment: str, wrong: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        traces.search([experiment], **wrong)  # type: ignore[arg-type]


def test_a_token_belongs_to_its_search(traces: RequestTraceService, experiment: str, five: list[str]) -> None:
    token = traces.search([experiment], limit=1).next
    with pytest.raises(Invalid, match="does not belong"):
        traces.search([experiment], "status = 'OK'", limit=1, after=token)


def test_linked_traces_are_found_by_their_run(traces: RequestTraceService, experiment: str, five: list[str]) -> None:
    run = RunService(traces.stores, traces.scope).start().id
    for _ in range(2):
        traces.link(run, [five[0], five[4], five[0]])
    found = traces.search([experiment], f"run_id = '{run}'").traces
    assert [trace.id for trace in found] == [five[4], five[0]]
    assert found[0].linked_runs == (run,)
    with pytest.raises(NotFound, match="not found"):
        traces.link(run, [five[1], f"tr-{new_id()}"])
    assert traces.get(five[1]).linked_runs == ()
    with pytest.raises(NotFound):
        traces.link(new_id(), [five[1]])
    with pytest.raises(Invalid, match="too many"):
        traces.link(run, five * 21)


def test_traces_are_asked_for_by_many_ids(traces: RequestTraceService, five: list[str]) -> None:
    found = traces.get_many([five[3], f"tr-{new_id()}", five[1], five[3]])
    assert [trace.id for trace in found] == [five[3], five[1]]
    with pytest.raises(Invalid, match="too many"):
        traces.get_many(five * 201)


def keep_spans(traces: RequestTraceService, id: str) -> None:
    ArtifactService(traces.stores, traces.scope).store(f"trace:{id}", "traces.json", io.BytesIO(id.encode()))


def count_files(traces: RequestTraceService) -> int:
    with traces.stores.db.read() as connection:
        return len(connection.execute(kept_files.select()).all())


def test_a_deleted_trace_takes_its_files_and_tags_with_it(
    traces: RequestTraceService, experiment: str, five: list[str]
) -> None:
    for id in five:
        keep_spans(traces, id)
    other = ExperimentService(traces.stores, traces.scope).create("others").id
    assert traces.delete(other, five) == 0
    assert traces.delete(experiment, [five[0], five[1], f"tr-{new_id()}"]) == 2
    assert count_files(traces) == 3
    with pytest.raises(NotFound):
        traces.get(five[0])
    assert traces.delete_before(experiment, START + timedelta(seconds=3), 1) == 1
    assert traces.delete_before(experiment, START + timedelta(seconds=3)) == 1
    assert [trace.id for trace in traces.search([experiment]).traces] == [five[4]]
    again = traces.record(experiment, NewTrace(id=five[0], started_at=START))
    assert (again.tags, again.metadata) == ({}, {})
    with pytest.raises(Invalid, match="at once"):
        traces.delete_before(experiment, START, 0)


def test_traces_are_collected_with_their_run_and_with_their_experiment(
    stores_sqlite: Stores,
) -> None:
    scope = Scope()
    traces, runs = RequestTraceService(stores_sqlite, scope), RunService(stores_sqlite, scope)
    files, storage = ArtifactService(stores_sqlite, scope), StorageService(stores_sqlite, scope, rooms=holding_rooms())
    experiments = ExperimentService(stores_sqlite, scope)
    kept, dropped = experiments.create("kept").id, experiments.create("dropped").id
    gone, stays = runs.start("kept").id, runs.start("kept").id
    ids = [
        traces.record(place, new(run=run)).id for place, run in ((kept, gone), (kept, stays), (kept, ""), (dropped, ""))
    ]
    digests = [files.store(f"trace:{id}", "traces.json", io.BytesIO(id.encode())).digest for id in ids]
    traces.link(gone, [ids[2]])
    for digest in digests:
        os.utime(stores_sqlite.data / "objects" / digest[:2] / digest[2:], (0, 0))
    for run in (gone, stays):
        runs.finish(run)
    runs.delete(gone)
    experiments.delete(dropped)
    storage.gc(True, 0)
    assert [stores_sqlite.objects.exists(digest) for digest in digests] == [True] * 4
    storage.gc(False, 0)
    assert [stores_sqlite.objects.exists(digest) for digest in digests] == [False, True, True, False]
    assert [trace.id for trace in traces.get_many(ids)] == ids[1:3]
    assert traces.get(ids[2]).linked_runs == ()


@pytest.mark.parametrize(
    ("filter", "index"),
    [
        ("", "ix_traces_started"),
        ("tags.team = 't7'", "ix_trace"),
        ("run_id = 'x'", "ix_traces_started"),
        ("execution_time > 5", "ix_traces_started"),
    ],
)
def test_a_search_reads_an_index_and_no_whole_table(stores_sqlite: Stores, filter: str, index: str) -> None:
    traces = RequestTraceService(stores_sqlite, Scope())
    experiment = ExperimentService(stores_sqlite, Scope()).create("requests").id
    traces.record(experiment, new(tags={"team": "t7"}))
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        asked.append((statement, values))

    with stores_sqlite.db.read() as connection:
        event.listen(connection.engine, "before_cursor_execute", note)
        try:
            traces.search([experiment], filter)
        finally:
            event.remove(connection.engine, "before_cursor_execute", note)
        [(statement, values)] = [item for item in asked if "sort_value_0" in item[0]]
        plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)]
    assert not [step for step in plan if step.startswith("SCAN")], plan
    assert any(index in step for step in plan), plan
