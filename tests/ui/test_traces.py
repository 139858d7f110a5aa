"""Pages of traces: spans in the order of their calls, and those that were sent as a file."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ui.conftest import Site

from loopwright.core import Corrupt
from loopwright.server.protocols.mlflow.span_items import spans_file
from loopwright.track import Span, SpanEvent, SpanStatus, spans_of_file
from loopwright.ui.views.traces import _in_order, _laid_out

TRACE = f"tr-{9:032x}"
spans = st.lists(
    st.builds(
        lambda id, parent, began, took: Span(
            trace=TRACE,
            id=f"{id:016x}",
            parent=f"{parent:016x}" if parent else "",
            name=f"span {id}",
            started_ns=began,
            ended_ns=None if took is None else began + took,
        ),
        st.integers(1, 8),
        st.integers(0, 9),
        st.integers(0, 50),
        st.none() | st.integers(0, 50),
    ),
    max_size=8,
    unique_by=lambda span: span.id,
)


@given(spans)
def test_every_span_is_shown_once_behind_the_one_that_called_it_and_within_the_whole_time(found: list[Span]) -> None:
    ordered = _in_order(found)
    assert Counter(span.id for span, _ in ordered) == Counter(span.id for span in found)
    for at, (span, depth) in enumerate(ordered):
        if depth:
            callers = [other.id for other, above in ordered[:at] if above == depth - 1]
            assert callers[-1] == span.parent
    for row in _laid_out(found):
        assert 0 <= row["left"] <= 100
        assert 0 <= row["width"] <= 100.001 - row["left"]


def test_spans_that_call_each_other_in_a_circle_end() -> None:
    ring = [
        Span(trace=TRACE, id=f"{a:016x}", parent=f"{b:016x}", name="x", started_ns=a)
        for a, b in ((1, 2), (2, 3), (3, 1))
    ]
    assert [(span.id[-1], depth) for span, depth in _in_order(ring)] == [("1", 0), ("3", 1), ("2", 2)]


def told() -> list[Span]:
    root = Span(
        trace=TRACE,
        id=f"{1:016x}",
        name="ask",
        started_ns=10**18,
        ended_ns=10**18 + 250_000_000,
        status=SpanStatus.OK,
        attributes={"mlflow.spanInputs": {"question": "why"}, "mlflow.spanType": "CHAIN", "depth": 2},
    )
    event = SpanEvent("exception", 10**18 + 2, {"exception.type": "KeyError"})
    more = {"status": SpanStatus.ERROR, "message": "no rows", "parent": root.id, "events": (event,)}
    return [root, Span(trace=TRACE, id=f"{2:016x}", name="look up", started_ns=10**18 + 1, **more)]


def test_spans_come_out_of_their_file_as_they_went_in() -> None:
    found = spans_of_file(spans_file(told()), TRACE)
    named = [Span(**{**_fields(span), "attributes": _without_request(span)}) for span in found]
    assert named == told()


def _fields(span: Span) -> dict[str, object]:
    return {name: getattr(span, name) for name in span.__struct_fields__}


def _without_request(span: Span) -> dict[str, object]:
    assert span.attributes["mlflow.traceRequestId"] == TRACE
    return {key: value for key, value in span.attributes.items() if key != "mlflow.traceRequestId"}


@pytest.mark.parametrize("damaged", [b"", b"{}", b'{"spans": [{}]}', b'{"spans": 3}', b"\xff", b'{"spans": [null]}'])
def test_a_damaged_file_of_spans_is_refused(damaged: bytes) -> None:
    with pytest.raises(Corrupt, match=TRACE):
        spans_of_file(damaged, TRACE)


def test_a_trace_whose_spans_were_sent_as_a_file_is_shown_and_a_damaged_file_is_told(fresh: Site) -> None:
    http = fresh.client()
    fresh.ws.experiments.create("chat")
    place = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": fresh.ws.experiments.get("chat").id}}
    about = {"trace_id": TRACE, "trace_location": place, "request_time": "2026-11-22T12:00:00Z", "state": "OK"}
    made = http.post("/api/3.0/mlflow/traces", json={"trace": {"trace_info": about}}).json()["trace"]["trace_info"]
    file = made["tags"]["mlflow.artifactLocation"].removeprefix("mlflow-artifacts:/")
    path = f"/api/2.0/mlflow-artifacts/artifacts/{file}/traces.json"
    shown = f"/p/default/traces/{TRACE}"
    assert "traces.json" in http.get(shown).text  # none was sent yet
    http.put(path, content=spans_file(told())).raise_for_status()
    page = http.get(shown).text
    for part in ("look up", "250 ms", "under way", "no rows", "KeyError", "&#34;why&#34;"):
        assert part in page, part
    twin = http.get(shown, params={"format": "json"}).json()
    assert [row["depth"] for row in twin["spans"]] == [0, 1]
    http.put(path, content=json.dumps({"spans": [{}]}).encode()).raise_for_status()
    assert "cannot be read" in http.get(shown).text
    assert http.get("/p/default/traces", params={"filter": "what is this"}).status_code == 200
    assert http.get("/p/default/traces/tr-0").status_code == 404
