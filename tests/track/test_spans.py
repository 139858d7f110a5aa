"""Spans that come one by one: kept once each, in any order, within bounds; and the traces that they make."""

from __future__ import annotations

import random

import msgspec
import pytest
from sqlalchemy import func, select

from loopwright.core import Conflict, Invalid, NotFound, Scope, new_id
from loopwright.store import Stores
from loopwright.track import (
    AssessmentKind,
    ExperimentService,
    NewAssessment,
    RequestTraceService,
    RunService,
    Span,
    SpanEvent,
    SpanLink,
    SpanStatus,
    Trace,
    TraceState,
)
from loopwright.track.traces import spans as spans_module
from loopwright.track.traces.model import INPUTS, KIND, NAME_TAG, OUTPUTS
from loopwright.track.traces.tables import trace_spans

START_NS = 1_795_392_000_000_000_001
MS = 1_000_000


@pytest.fixture
def traces(stores: Stores) -> RequestTraceService:
    service = RequestTraceService(stores, Scope(actor="user:ada"))
    ExperimentService(stores, service.scope).create("requests")
    return service


def tree(trace: str = "") -> list[Span]:
    """A trace of three spans, children first, as exporters send them."""
    id = trace or f"tr-{new_id()}"
    root = Span(
        trace=id,
        id="a" * 16,
        name="answer",
        started_ns=START_NS,
        ended_ns=START_NS + 20 * MS,
        status=SpanStatus.ERROR,
        message="too late",
        attributes={INPUTS: {"q": "why"}, OUTPUTS: "because", "mlflow.traceTag.team": "ops", "n": 1 << 60, "x": 0.5},
        events=(SpanEvent("exception", START_NS + 5, {"type": "Late"}),),
        links=(SpanLink(f"tr-{'1' * 32}", "2" * 16, {"why": "retry"}),),
    )
    child = Span(
        trace=id, id="b" * 16, parent=root.id, name="look up", started_ns=START_NS + MS, ended_ns=START_NS + 2 * MS
    )
    model = Span(
        trace=id,
        id="c" * 16,
        parent=child.id,
        name="ask",
        started_ns=START_NS + MS,
        attributes={KIND: "LLM", "a": "Café"},
    )
    return [model, child, root]


def found(traces: RequestTraceService, filter: str) -> list[str]:
    return [trace.id for trace in traces.search(["requests"], filter).traces]


def test_a_trace_is_made_of_its_spans_in_whatever_order_and_how_often_they_come(traces: RequestTraceService) -> None:
    """Property: any order, any split, any repeats give the same trace and the same spans."""
    chance = random.Random(7)
    made: list[tuple[Trace, list[Span]]] = []
    for _ in range(6):
        spans = tree()
        sent = [*spans, *chance.choices(spans, k=3)]
        chance.shuffle(sent)
        cut = chance.randrange(len(sent))
        for part in (sent[:cut], sent[cut:], spans):
            traces.record_spans("requests", part, {"service.name": "shop"})
        made.append((traces.get(spans[0].trace), traces.spans(spans[0].trace)))
        assert made[-1][1] == [spans[2], *sorted(spans[:2], key=lambda span: span.id)]
    trace = made[0][0]
    for one, _ in made:
        assert msgspec.structs.replace(one, id=trace.id) == trace
    assert (trace.state, trace.duration_ms, trace.spans, trace.name) == (TraceState.ERROR, 20, 3, "answer")
    assert (trace.request_preview, trace.response_preview) == ('{"q": "why"}', "because")
    assert trace.tags == {NAME_TAG: "answer", "team": "ops", "service.name": "shop"}


def test_a_trace_runs_until_its_root_has_ended_and_keeps_what_its_client_told(traces: RequestTraceService) -> None:
    model, child, root = tree()
    traces.record_spans("requests", [model, child])
    assert (traces.get(root.trace).state, traces.get(root.trace).name) == (TraceState.RUNNING, "")
    traces.set_tags(root.trace, {NAME_TAG: "mine"})
    traces.record_spans("requests", [msgspec.structs.replace(root, ended_ns=None)])
    assert traces.get(root.trace).state is TraceState.RUNNING
    traces.record_spans("requests", [root])
    ended = traces.get(root.trace)
    assert (ended.state, ended.name) == (TraceState.ERROR, "mine")
    late = msgspec.structs.replace(child, id="d" * 16, ended_ns=START_NS + 500 * MS)
    traces.record_spans("requests", [late])
    assert msgspec.structs.replace(traces.get(root.trace), spans=3) == ended


def test_what_does_not_fit_into_a_trace_is_refused_and_told(
    traces: RequestTraceService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spans_module, "_MAX_TRACE_BYTES", 3500)
    monkeypatch.setattr(spans_module, "_MAX_SPAN_BYTES", 3000)
    model, child, root = tree()
    huge = msgspec.structs.replace(child, id="e" * 16, attributes={"text": "x" * 3000})
    large = [msgspec.structs.replace(child, id=f"{n:016}", attributes={"text": "x" * 1500}) for n in (1, 2, 3)]
    kept = traces.record_spans("requests", [root, model, huge, *large])
    assert (kept.kept, kept.refused) == (3, 3)
    assert "64 MiB" in kept.why
    assert traces.record_spans("requests", [root, model, large[0]]).refused == 0
    with pytest.raises(Invalid, match="too many at once"):
        traces.record_spans("requests", [root] * 10_001)


def test_malformed_spans_and_unknown_places_are_refused_whole(traces: RequestTraceService) -> None:
    model, child, root = tree()
    for wrong in (
        {"id": "A" * 16},
        {"id": "a" * 15},
        {"trace": "tr-1"},
        {"parent": "x"},
        {"started_ns": -1},
        {"started_ns": 1 << 63},
    ):
        with pytest.raises(Invalid):
            traces.record_spans("requests", [model, msgspec.structs.replace(child, **wrong)])
    with pytest.raises(NotFound):
        traces.record_spans("nowhere", [root])
    with pytest.raises(NotFound):
        traces.record_spans("requests", [root], run=new_id())
    other = RequestTraceService(traces.stores, Scope("other", "user:eve"))
    ExperimentService(traces.stores, other.scope).create("requests")
    other.record_spans("requests", [root])
    with pytest.raises(Conflict, match="another project"):
        traces.record_spans("requests", [model])
    with pytest.raises(NotFound):
        traces.spans(root.trace)


def test_traces_are_found_by_their_spans_and_assessments_and_go_with_them(traces: RequestTraceService) -> None:
    spans, plain = (
        tree(),
        Span(trace=f"tr-{new_id()}", id="a" * 16, name="other", started_ns=START_NS, ended_ns=START_NS),
    )
    run = RunService(traces.stores, traces.scope).start("requests").id
    traces.record_spans("requests", [*spans, plain])
    traces.record_spans("requests", spans, run=run)
    id = spans[0].trace
    for name, value in (("good", True), ("score", 0.5), ("tone", "dry")):
        traces.assess(id, NewAssessment(kind=AssessmentKind.FEEDBACK, name=name, content={"value": value}))
    traces.assess(plain.trace, NewAssessment(kind=AssessmentKind.EXPECTATION, name="good", content={"value": "yes"}))
    for filter in (
        "span.name = 'ask'",
        "span.name LIKE 'look%' AND span.type = 'LLM'",
        "span.status = 'ERROR'",
        "trace.text ILIKE '%café%'",
        "span.content LIKE '%retry%'",
        "feedback.good = 'true'",
        "feedback.score = '0.5'",
        "feedback.tone IN ('dry', 'warm')",
        "feedback.tone IS NOT NULL",
        f"run_id = '{run}'",
    ):
        assert found(traces, filter) == [id], filter
    assert found(traces, "expectation.good != 'no'") == found(traces, "feedback.good IS NULL") == [plain.trace]
    assert found(traces, "feedback.good = 'false'") == []
    assert (traces.count(["requests"]), traces.count(["requests"], "span.name = 'other'")) == (2, 1)
    for wrong in ("span.colour = 'x'", "feedback.good LIKE 'x'", "feedback.good > 1"):
        with pytest.raises(Invalid):
            found(traces, wrong)
    with pytest.raises(Invalid, match="cannot order"):
        traces.search(["requests"], order_by=["span.name"])
    assert traces.delete(traces.get(id).experiment_id, [id]) == 1
    with traces.stores.db.read() as connection:
        assert connection.execute(select(func.count()).select_from(trace_spans)).scalar_one() == 1
