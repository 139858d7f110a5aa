"""Tracing with the newest client from PyPI, unmodified."""

from __future__ import annotations

import mlflow
import pytest
from mlflow.entities import AssessmentSource, AssessmentSourceType, Expectation, Feedback, SpanType, TraceState
from mlflow.exceptions import MlflowException


@mlflow.trace(span_type=SpanType.RETRIEVER, attributes={"source": "kb"})
def look_up(word: str) -> list[str]:
    return [word, word.upper()]


@mlflow.trace
def answer(question: str) -> str:
    with mlflow.start_span("think") as span:
        span.set_inputs({"question": question})
        span.set_outputs(42)
    return " ".join(look_up(question))


def traced(question: str = "why") -> str:
    """The id of a new trace, once the server has it."""
    answer(question)
    mlflow.flush_trace_async_logging()
    found = mlflow.get_last_active_trace_id()
    assert found is not None
    return str(found)


def test_a_traced_function_is_read_back_with_its_spans(uri: str) -> None:
    trace = mlflow.get_trace(traced())
    assert [span.name for span in trace.data.spans] == ["answer", "think", "look_up"]
    root, think, lookup = trace.data.spans
    assert (root.parent_id, think.parent_id, lookup.parent_id) == (None, root.span_id, root.span_id)
    assert (root.inputs, root.outputs) == ({"question": "why"}, "why WHY")
    assert (think.inputs, think.outputs) == ({"question": "why"}, 42)
    assert (lookup.span_type, lookup.attributes["source"]) == (SpanType.RETRIEVER, "kb")
    assert (trace.info.state, trace.info.experiment_id) == (TraceState.OK, "0")
    assert trace.info.execution_duration is not None
    assert (trace.info.tags["mlflow.traceName"], "why" in trace.info.request_preview) == ("answer", True)


def test_traces_are_searched_as_a_frame_and_as_records(uri: str) -> None:
    ids = [traced(word) for word in ("a", "b", "c")]
    frame = mlflow.search_traces(locations=["0"])
    assert list(frame["trace_id"]) == ids[::-1]
    assert list(frame["response"]) == ["c C", "b B", "a A"]
    assert [len(spans) for spans in frame["spans"]] == [3, 3, 3]
    found = mlflow.search_traces(
        locations=["0"],
        filter_string="attributes.name = 'answer' AND trace.status = 'OK' AND attributes.execution_time_ms >= 0",
        order_by=["timestamp_ms ASC"],
        max_results=2,
        return_type="list",
    )
    assert [trace.info.trace_id for trace in found] == ids[:2]
    assert found[0].data.spans[0].outputs == "a A"
    assert mlflow.search_traces(locations=["0"], filter_string="name = 'other'", return_type="list") == []


def test_pages_of_the_client_hold_each_trace_once(client: mlflow.MlflowClient) -> None:
    ids = {traced(str(number)) for number in range(5)}
    first = client.search_traces(locations=["0"], max_results=2)
    second = client.search_traces(locations=["0"], max_results=10, page_token=first.token)
    assert (len(first), len(second), second.token) == (2, 3, None)
    assert {trace.info.trace_id for trace in [*first, *second]} == ids


def test_an_error_is_told_with_its_trace(uri: str) -> None:
    @mlflow.trace
    def fail() -> None:
        raise ValueError("no such answer")

    with pytest.raises(ValueError, match="no such answer"):
        fail()
    mlflow.flush_trace_async_logging()
    [trace] = mlflow.search_traces(locations=["0"], filter_string="status = 'ERROR'", return_type="list")
    assert trace.info.state is TraceState.ERROR
    assert trace.data.spans[0].events[0].attributes["exception.message"] == "no such answer"


def test_a_trace_of_a_run_is_found_by_it(client: mlflow.MlflowClient) -> None:
    with mlflow.start_run() as run:
        inside = traced("inside")
    outside = traced("outside")
    [found] = mlflow.search_traces(locations=["0"], run_id=run.info.run_id, return_type="list")
    assert found.info.trace_id == inside
    client.link_traces_to_run([outside], run.info.run_id)
    both = mlflow.search_traces(locations=["0"], run_id=run.info.run_id, return_type="list")
    assert {trace.info.trace_id for trace in both} == {inside, outside}


def test_tags_and_metadata_of_a_trace(client: mlflow.MlflowClient) -> None:
    @mlflow.trace
    def work() -> None:
        mlflow.update_current_trace(tags={"team": "ops"}, metadata={"mlflow.trace.user": "ann"})

    work()
    mlflow.flush_trace_async_logging()
    id = mlflow.get_last_active_trace_id()
    client.set_trace_tag(id, "a/b c", "1")
    client.delete_trace_tag(id, "team")
    asked = "tags.`a/b c` = '1' AND metadata.`mlflow.trace.user` = 'ann'"
    [found] = mlflow.search_traces(locations=["0"], filter_string=asked, return_type="list")
    assert found.info.trace_id == id
    assert "team" not in found.info.tags


def test_deleted_traces_are_gone(client: mlflow.MlflowClient) -> None:
    ids = [traced(str(number)) for number in range(3)]
    assert client.delete_traces("0", trace_ids=ids[:1]) == 1
    assert mlflow.get_trace(ids[0], silent=True) is None
    oldest = client.get_trace(ids[1]).info.request_time
    assert client.delete_traces("0", max_timestamp_millis=oldest, max_traces=1) == 1
    with pytest.raises(MlflowException, match="not found"):
        client.get_trace(ids[1])
    [left] = client.search_traces(locations=["0"])
    assert left.info.trace_id == ids[2]


def test_feedback_and_expectations_are_kept_changed_and_shown_in_searches(client: mlflow.MlflowClient) -> None:
    trace = traced()
    judge = AssessmentSource(AssessmentSourceType.LLM_JUDGE, "judge-1")
    mlflow.log_feedback(
        trace_id=trace, name="right", value=True, source=judge, rationale="it is so", metadata={"cost": "1"}
    )
    mlflow.log_expectation(trace_id=trace, name="answer", value={"word": "why", "score": [1, 2.5, None]})
    mlflow.log_feedback(trace_id=trace, name="broken", error=ValueError("no answer"))
    for found in (mlflow.get_trace(trace), *mlflow.search_traces(return_type="list")):
        assert found is not None
        right, answer, broken = found.info.assessments
        assert isinstance(right, Feedback)
        assert (right.name, right.value, right.source, right.rationale) == ("right", True, judge, "it is so")
        assert (right.trace_id, right.metadata, right.valid) == (trace, {"cost": "1"}, True)
        assert isinstance(answer, Expectation)
        assert answer.value == {"word": "why", "score": [1, 2.5, None]}
        assert isinstance(broken, Feedback)
        assert (broken.value, broken.error_message) == (None, "no answer")
    assert right.assessment_id is not None
    changed = mlflow.update_assessment(
        trace, right.assessment_id, Feedback(name="correct", value="no", rationale="on second thought")
    )
    assert mlflow.get_assessment(trace, right.assessment_id) == changed
    assert (changed.name, changed.feedback.value, changed.rationale, changed.metadata) == (
        "correct",
        "no",
        "on second thought",
        {"cost": "1"},
    )
    instead = mlflow.override_feedback(trace_id=trace, assessment_id=right.assessment_id, value="yes")
    assert mlflow.get_assessment(trace, right.assessment_id).valid is False
    assert instead.overrides == right.assessment_id
    mlflow.delete_assessment(trace, instead.assessment_id)
    assert mlflow.get_assessment(trace, right.assessment_id).valid is True
    mlflow.delete_assessment(trace, right.assessment_id)
    with pytest.raises(MlflowException) as missing:
        mlflow.get_assessment(trace, right.assessment_id)
    assert missing.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    assert [item.name for item in client.get_trace(trace).info.assessments] == ["answer", "broken"]


def test_an_assessment_in_a_trace_that_is_under_way_comes_with_it(uri: str) -> None:
    with mlflow.start_span("work") as span:
        mlflow.log_feedback(trace_id=span.trace_id, name="early", value=0.5)
    mlflow.flush_trace_async_logging()
    found = mlflow.get_trace(span.trace_id)
    assert found is not None
    assert [(item.name, item.value) for item in found.info.assessments] == [("early", 0.5)]


def test_spans_are_there_before_their_trace_has_ended_and_are_searched(client: mlflow.MlflowClient) -> None:
    with mlflow.start_span("order") as root:
        with mlflow.start_span("pay", span_type=SpanType.TOOL) as span:
            span.set_inputs({"card": "4711"})
        mlflow.flush_trace_async_logging()
        [early] = mlflow.search_traces(locations=["0"], return_type="list", filter_string="span.name = 'pay'")
        assert (early.info.trace_id, early.info.state) == (root.trace_id, TraceState.IN_PROGRESS)
        assert [item.name for item in early.data.spans] == ["pay"]
    mlflow.flush_trace_async_logging()
    traced("other")
    mlflow.log_feedback(trace_id=root.trace_id, name="good", value=True)
    for asked in ("span.type = 'TOOL'", "trace.text LIKE '%4711%'", "feedback.good = 'true'"):
        [found] = mlflow.search_traces(locations=["0"], return_type="list", filter_string=asked)
        assert (found.info.trace_id, found.info.state) == (root.trace_id, TraceState.OK), asked
        assert [item.name for item in found.data.spans] == ["order", "pay"]


def test_evaluation_datasets_hold_records_and_traces(client: mlflow.MlflowClient) -> None:
    made = mlflow.genai.create_dataset(name="qa", experiment_id=["0"], tags={"team": "ml"})
    made.merge_records([{"inputs": {"q": "why"}, "expectations": {"a": "because"}}, {"inputs": {"q": "who"}}])
    made.merge_records([{"inputs": {"q": "why"}, "expectations": {"b": 1}}])
    made.merge_records([mlflow.get_trace(traced("what"))])
    held = mlflow.genai.get_dataset(dataset_id=made.dataset_id)
    records = {str(record["inputs"]): record for record in held.to_df().to_dict("records")}
    assert len(records) == 3
    assert records["{'q': 'why'}"]["expectations"] == {"a": "because", "b": 1}
    assert records["{'question': 'what'}"]["source_type"] == "TRACE"
    assert (held.tags["team"], held.experiment_ids) == ("ml", ["0"])
    assert [item.name for item in client.search_datasets(filter_string="tags.team = 'ml'")] == ["qa"]
    mlflow.genai.delete_dataset(dataset_id=made.dataset_id)
    with pytest.raises(MlflowException, match="not found"):
        mlflow.genai.get_dataset(dataset_id=made.dataset_id)
