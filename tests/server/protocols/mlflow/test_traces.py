"""Traces over raw HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from tests.server.protocols.mlflow.conftest import Server, error, told

from loopwright.core import new_id
from loopwright.govern import Role

V3, V2 = "/api/3.0/mlflow/traces", "/api/2.0/mlflow/traces"
PLACE = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}}


def info(**more: Any) -> dict[str, Any]:
    told_of = {"trace_location": PLACE, "request_time": "2026-11-22T12:00:00.250Z", "state": "OK"}
    return {"trace_id": f"tr-{new_id()}", **told_of, **more}


def start(server: Server, **more: Any) -> dict[str, Any]:
    made = told(server.http.post(V3, json={"trace": {"trace_info": info(**more)}}))
    found: dict[str, Any] = made["trace"]["trace_info"]
    return found


def search(server: Server, **fields: Any) -> dict[str, Any]:
    return told(server.http.post(f"{V3}/search", json={"locations": [PLACE], **fields}))


def test_a_trace_is_kept_and_its_files_have_a_place(both: Server) -> None:
    made = start(
        both,
        execution_duration="1.250s",
        client_request_id="c1",
        request_preview="q",
        response_preview="a",
        trace_metadata={"user": "ann"},
        tags={"team": "ops", "mlflow.artifactLocation": "file:///etc", "mlflow.trace.spansLocation": "TRACKING_STORE"},
    )
    id = made["trace_id"]
    assert made == told(both.http.get(f"{V3}/{id}"))["trace"]["trace_info"]
    assert made == {
        "trace_id": id,
        "client_request_id": "c1",
        "trace_location": PLACE,
        "request_preview": "q",
        "response_preview": "a",
        "request_time": "2026-11-22T12:00:00.250000Z",
        "execution_duration": "1.250s",
        "state": "OK",
        "trace_metadata": {"user": "ann"},
        "tags": {"team": "ops", "mlflow.artifactLocation": f"mlflow-artifacts:/0/traces/{id}/artifacts"},
    }
    place = f"/api/2.0/mlflow-artifacts/artifacts/0/traces/{id}/artifacts/traces.json"
    assert both.http.put(place, content=b'{"spans": []}').status_code == 200
    assert both.http.get(place).content == b'{"spans": []}'
    [found] = told(both.http.post(f"{V3}/batchGetInfos", json={"trace_ids": [f"tr-{new_id()}", id]}))["trace_infos"]
    assert found == made
    among = {"trace_ids": [id], "experiment_ids": ["f" * 32]}
    assert told(both.http.post(f"{V3}/batchGetInfos", json=among)) == {}


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        ("2026-11-22T12:00:00Z", "2026-11-22T12:00:00Z"),
        ("2026-11-22T13:00:00.5+01:00", "2026-11-22T12:00:00.500000Z"),
        ("2026-11-22T12:00:00.123456789Z", "2026-11-22T12:00:00.123457Z"),
    ],
)
def test_times_are_read_in_every_form_of_protobuf(server: Server, asked: str, kept: str) -> None:
    assert start(server, request_time=asked)["request_time"] == kept


def test_files_of_a_trace_that_is_not_there_are_refused(server: Server) -> None:
    place = f"/api/2.0/mlflow-artifacts/artifacts/0/traces/tr-{new_id()}/artifacts/traces.json"
    assert error(server.http.put(place, content=b"{}"))[:2] == (404, "RESOURCE_DOES_NOT_EXIST")


def test_tags_are_set_and_deleted(both: Server) -> None:
    id = start(both)["trace_id"]
    told(both.http.patch(f"{V2}/{id}/tags", json={"key": "a/b", "value": "1"}))
    told(both.http.patch(f"{V2}/{id}/tags", json={"key": "mlflow.artifactLocation", "value": "file:///etc"}))
    tags = told(both.http.get(f"{V3}/{id}"))["trace"]["trace_info"]["tags"]
    assert tags == {"a/b": "1", "mlflow.artifactLocation": f"mlflow-artifacts:/0/traces/{id}/artifacts"}
    told(both.http.request("DELETE", f"{V2}/{id}/tags", json={"key": "a/b"}))
    assert error(both.http.request("DELETE", f"{V2}/{id}/tags", json={"key": "a/b"}))[:2] == (
        404,
        "RESOURCE_DOES_NOT_EXIST",
    )


def test_pages_of_a_search_hold_each_trace_once(both: Server) -> None:
    made = [start(both, request_time=f"2026-11-22T12:00:0{n}Z", tags={"n": str(n)})["trace_id"] for n in range(5)]
    start(both, state="ERROR")
    found, token = [], ""
    for _ in range(3):
        page = search(both, filter="status = 'OK'", max_results=2, order_by=["timestamp_ms ASC"], page_token=token)
        found += [item["trace_id"] for item in page["traces"]]
        token = page.get("next_page_token", "")
    assert (found, token) == (made, "")
    [one] = search(both, filter="tags.n = '3'")["traces"]
    assert one["trace_id"] == made[3]
    assert search(both, filter="tags.n = '9'") == {}


def test_traces_are_found_by_the_run_that_made_them_or_is_linked(both: Server) -> None:
    run, other = both.run(), both.run()
    made = start(both, trace_metadata={"mlflow.sourceRun": run})["trace_id"]
    linked = start(both)["trace_id"]
    told(both.http.post(f"{V2}/link-to-run", json={"run_id": other, "trace_ids": [linked]}))
    for asked, id in ((run, made), (other, linked)):
        [found] = search(both, filter=f"attributes.run_id = '{asked}'")["traces"]
        assert found["trace_id"] == id


def test_traces_are_deleted_by_id_or_age(both: Server) -> None:
    ids = [start(both, request_time=f"2026-11-22T12:00:0{n}.001Z")["trace_id"] for n in range(4)]
    experiment = {"experiment_id": "0"}
    at = 1_795_348_801_001  # that of the second
    assert told(both.http.post(f"{V2}/delete-traces", json={**experiment, "request_ids": ids[3:]})) == {
        "traces_deleted": 1
    }
    by_age = {**experiment, "max_timestamp_millis": str(at)}
    assert told(both.http.post(f"{V2}/delete-traces", json={**by_age, "max_traces": 1})) == {"traces_deleted": 1}
    assert [item["trace_id"] for item in search(both)["traces"]] == [ids[2], ids[1]]
    assert told(both.http.post(f"{V2}/delete-traces", json=by_age)) == {"traces_deleted": 1}
    assert told(both.http.post(f"{V2}/delete-traces", json=by_age)) == {"traces_deleted": 0}
    assert [item["trace_id"] for item in search(both)["traces"]] == [ids[2]]
    for wrong in (experiment, {**by_age, "request_ids": ids}, {**by_age, "max_timestamp_millis": -5}):
        answer = both.http.post(f"{V2}/delete-traces", json=wrong)
        assert error(answer)[:2] == (400, "INVALID_PARAMETER_VALUE")


@pytest.mark.parametrize(
    "wrong",
    [
        {"trace_id": "x"},
        {"trace_id": "tr-../../../etc/passwd"},
        {"trace_id": None},
        {"request_time": None},
        {"request_time": "yesterday"},
        {"request_time": "2026-11-22T12:00:00"},
        {"request_time": 5},
        {"request_time": "1969-12-31T23:59:59Z"},
        {"request_time": "9999-12-31T23:59:59.999999-23:59"},
        {"request_time": "99999-01-01T00:00:00Z"},
        {"execution_duration": "-1s"},
        {"execution_duration": "1e9s"},
        {"execution_duration": "9" * 30 + "s"},
        {"execution_duration": 3},
        {"state": "GREAT"},
        {"trace_location": {"type": "INFERENCE_TABLE"}},
        {"trace_location": {"mlflow_experiment": {}}},
        {"tags": {"a": 1}},
        {"tags": {"a": "x" * 10_001}},
        {"tags": {"k" * 251: "x"}},
        {"trace_metadata": {"mlflow.sourceRun": "r" * 33}},
        {"request_preview": "\x00"},
        {"tags": "many"},
    ],
)
def test_a_malformed_trace_is_refused(server: Server, wrong: dict[str, Any]) -> None:
    answer = server.http.post(V3, json={"trace": {"trace_info": info(**wrong)}})
    assert error(answer)[:2] == (400, "INVALID_PARAMETER_VALUE"), answer.text
    assert search(server) == {}


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{", 400), (b"[]", 400), (b"{}", 400), (b'{"trace": {}}', 400), (b'{"trace": null}', 400), (b"\xff", 400)],
)
def test_a_malformed_body_is_refused(server: Server, body: bytes, status: int) -> None:
    answer = server.http.post(V3, content=body, headers={"Content-Type": "application/json"})
    assert error(answer)[0] == status


def test_unknown_things_are_told_in_mlflows_words(server: Server) -> None:
    id = f"tr-{new_id()}"
    status, code, message = error(server.http.get(f"{V3}/{id}"))
    assert (status, code) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert f"Trace with ID '{id}' not found." in message
    nowhere = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "f" * 32}}
    answer = server.http.post(V3, json={"trace": {"trace_info": info(trace_location=nowhere)}})
    assert error(answer)[:2] == (404, "RESOURCE_DOES_NOT_EXIST")
    for fields in ({"filter": "x.y = 1"}, {"page_token": "!"}, {"max_results": 0}, {"order_by": ["metrics.x"]}):
        answer = server.http.post(f"{V3}/search", json={"locations": [PLACE], **fields})
        assert error(answer)[:2] == (400, "INVALID_PARAMETER_VALUE")


def test_a_viewer_reads_and_an_editor_writes(guarded: Server) -> None:
    viewer, editor = guarded.token(Role.VIEWER), guarded.token(Role.EDITOR)
    body = {"trace": {"trace_info": info()}}
    assert guarded.http.post(V3, json=body).status_code == 401
    assert guarded.http.post(V3, json=body, headers=viewer).status_code == 403
    assert guarded.http.post(V3, json=body, headers=editor).status_code == 200
    found = guarded.http.post(f"{V3}/search", json={"locations": [PLACE]}, headers=viewer)
    assert len(told(found)["traces"]) == 1


def thought(**more: Any) -> dict[str, Any]:
    return {"assessment_name": "right", "source": {"source_type": "HUMAN"}, "feedback": {"value": True}, **more}


def test_assessments_over_raw_http(both: Server) -> None:
    id = start(both, assessments=[thought(create_time="2026-11-22T12:00:00Z")])["trace_id"]
    place = f"{V3}/{id}/assessments"
    made = told(both.http.post(place, json={"assessment": thought(feedback={"value": None, "error": {}})}))
    one = made["assessment"]
    assert one["feedback"] == {"value": None, "error": {}}
    shown = search(both)["traces"][0]["assessments"]
    assert shown[1] == one
    assert (shown[0]["create_time"], shown[0]["valid"]) == ("2026-11-22T12:00:00Z", True)
    change = {"assessment": {"assessment_name": "well", "rationale": "so"}, "update_mask": "assessmentName,rationale"}
    changed = told(both.http.patch(f"{place}/{one['assessment_id']}", json=change))["assessment"]
    assert (changed["assessment_name"], changed["rationale"], changed["feedback"]) == ("well", "so", one["feedback"])
    for _ in range(2):
        assert told(both.http.delete(f"{place}/{one['assessment_id']}")) == {}
    assert error(both.http.get(f"{place}/{one['assessment_id']}"))[:2] == (404, "RESOURCE_DOES_NOT_EXIST")


@pytest.mark.parametrize(
    "wrong",
    [
        {"assessment_name": ""},
        {"feedback": None},
        {"expectation": {"value": 1}},
        {"create_time": "yesterday"},
        {"create_time": "2026-11-22T12:00:00"},
        {"metadata": {"a": 1}},
    ],
)
def test_what_is_no_assessment_is_refused(server: Server, wrong: dict[str, Any]) -> None:
    id = start(server)["trace_id"]
    answer = server.http.post(f"{V3}/{id}/assessments", json={"assessment": thought(**wrong)})
    assert error(answer)[:2] == (400, "INVALID_PARAMETER_VALUE")
