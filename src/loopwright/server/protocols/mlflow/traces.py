"""Traces over MLflow's protocol. Spans do not come here: clients put them into the file `traces.json` of a trace."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from loopwright.core import Invalid, NotFound
from loopwright.server.protocols.mlflow import wire
from loopwright.server.protocols.mlflow.assessments import AssessmentItem, assessment_item, new_assessment
from loopwright.server.protocols.mlflow.endpoint import Endpoint, Rooms, ask
from loopwright.server.protocols.mlflow.experiments import find
from loopwright.server.protocols.mlflow.records import DEFAULT_ID, OUR_DEFAULT, Item, moment, our_id
from loopwright.server.protocols.mlflow.span_items import messages, spans_file
from loopwright.server.route import Call
from loopwright.track import SPANS_FILE, NewTrace, TraceState

if TYPE_CHECKING:
    from loopwright.track import Trace

BASE, OLD = "/api/3.0/mlflow/traces", "/api/2.0/mlflow/traces"
LOCATION, SOURCE_RUN, SPANS_LOCATION = "mlflow.artifactLocation", "mlflow.sourceRun", "mlflow.trace.spansLocation"
_STATES = {
    "STATE_UNSPECIFIED": TraceState.UNKNOWN,
    "OK": TraceState.OK,
    "ERROR": TraceState.ERROR,
    "IN_PROGRESS": TraceState.RUNNING,
}
_NAMES = {state: name for name, state in _STATES.items()}
_NUMBERS = {str(number): state for number, state in enumerate(_STATES.values())}
_MAX_BYTES = 64 << 20
_LAST_MS = 253_402_300_799_998
_DURATION = re.compile(r"(\d{1,15})(?:\.(\d{1,9}))?s")


class ExperimentPlace(Item, frozen=True):
    experiment_id: str = ""


class Location(Item, frozen=True):
    """Where a trace is; we have experiments only."""

    type: str = ""
    mlflow_experiment: ExperimentPlace | None = None


class TraceItem(Item, frozen=True, kw_only=True):
    """What is known of a trace; the duration is a text such as `1.250s`."""

    trace_id: str
    client_request_id: str = ""
    trace_location: Location = Location()
    request_preview: str = ""
    response_preview: str = ""
    request_time: str = ""
    execution_duration: str | None = None
    state: str = "STATE_UNSPECIFIED"
    trace_metadata: dict[str, str] = {}
    tags: dict[str, str] = {}
    assessments: list[AssessmentItem] = []


class One(Item, frozen=True):
    trace_info: TraceItem


class Start(wire.Request, frozen=True):
    trace: One


class ById(wire.Request, frozen=True):
    trace_id: str


class ByIds(wire.Request, frozen=True):
    trace_ids: list[str]
    experiment_ids: list[str] | None = None


class Search(wire.Request, frozen=True):
    locations: list[Location]
    filter: str = ""
    max_results: int = 100
    order_by: list[str] = []
    page_token: str = ""


class Tag(wire.Request, frozen=True):
    trace_id: str
    key: str
    value: str = ""


class Delete(wire.Request, frozen=True):
    experiment_id: str
    max_timestamp_millis: int | None = None
    max_traces: int | None = None
    request_ids: list[str] = []


class Link(wire.Request, frozen=True):
    trace_ids: list[str]
    run_id: str


class Answer(Item, frozen=True):
    trace: One


class WholeTrace(msgspec.Struct, frozen=True):
    """A trace with its spans, in OpenTelemetry's words."""

    trace_info: TraceItem
    spans: list[dict[str, Any]] = []


class Whole(msgspec.Struct, frozen=True):
    trace: WholeTrace


class Wholes(msgspec.Struct, frozen=True):
    traces: list[WholeTrace] = []


class Page(Item, frozen=True):
    traces: list[TraceItem] = []
    next_page_token: str = ""


class Infos(Item, frozen=True):
    trace_infos: list[TraceItem] = []


class Deleted(msgspec.Struct, frozen=True):
    traces_deleted: int


def trace_item(trace: Trace, default_experiment: str) -> TraceItem:
    """A trace in MLflow's words. Args: the id of the project's default experiment, which MLflow calls 0."""
    experiment = DEFAULT_ID if trace.experiment_id == default_experiment else trace.experiment_id
    length = trace.duration_ms
    place = f"mlflow-artifacts:/{experiment}/traces/{trace.id}/artifacts"
    return TraceItem(
        trace_id=trace.id,
        client_request_id=trace.client_request,
        trace_location=Location("MLFLOW_EXPERIMENT", ExperimentPlace(experiment)),
        request_preview=trace.request_preview,
        response_preview=trace.response_preview,
        request_time=trace.started_at.isoformat().replace("+00:00", "Z"),
        execution_duration=None if length is None else f"{length // 1000}.{length % 1000:03}s",
        state=_NAMES[trace.state],
        trace_metadata=trace.metadata,
        tags={**trace.tags, LOCATION: place, **({SPANS_LOCATION: "TRACKING_STORE"} if trace.spans else {})},
        assessments=[assessment_item(item) for item in trace.assessments],
    )


def new_trace(item: TraceItem) -> NewTrace:
    """A trace as a client tells it. Where its files are is the server's affair, so what it says of that is left out.

    Raises:
        Invalid: the time, the state or the duration is none.
    """
    state = _STATES.get(item.state) or _NUMBERS.get(item.state)
    if state is None:
        raise wire.invalid("state", item.state, f"use one of {', '.join(_STATES)}")
    return NewTrace(
        id=item.trace_id,
        started_at=_time(item.request_time),
        duration_ms=None if item.execution_duration is None else _milliseconds(item.execution_duration),
        state=state,
        run=item.trace_metadata.get(SOURCE_RUN, ""),
        client_request=item.client_request_id,
        request_preview=item.request_preview,
        response_preview=item.response_preview,
        tags={key: value for key, value in item.tags.items() if key not in (LOCATION, SPANS_LOCATION)},
        metadata=item.trace_metadata,
        assessments=tuple(new_assessment(one) for one in item.assessments),
    )


def _time(text: str) -> datetime:
    if not text:
        raise wire.missing("trace.trace_info.request_time")
    try:
        found: datetime = msgspec.convert(text, Annotated[datetime, msgspec.Meta(tz=True)])
        return found
    except msgspec.ValidationError:
        raise wire.invalid("request_time", text, "write it as '2026-11-22T09:30:00.250Z'") from None


def _milliseconds(text: str) -> int:
    found = _DURATION.fullmatch(text)
    if found is None:
        raise wire.invalid("execution_duration", text, "write seconds, such as '1.25s'")
    return int(found[1]) * 1000 + int((found[2] or "")[:3].ljust(3, "0"))


def _one(rooms: Rooms, trace: Trace) -> Answer:
    return Answer(One(trace_item(trace, _default(rooms))))


def _default(rooms: Rooms) -> str:
    return find(rooms.experiments, DEFAULT_ID).id


def _experiment(item: Location) -> str:
    if item.mlflow_experiment is None or not item.mlflow_experiment.experiment_id:
        raise Invalid("a trace is kept in an experiment here", next_step="give trace_location.mlflow_experiment")
    return item.mlflow_experiment.experiment_id


async def start(call: Call, asked: Start) -> Answer:
    """Keep a trace; clients call this when it has ended."""
    item = asked.trace.trace_info
    place, wanted = _experiment(item.trace_location), new_trace(item)
    return await ask(call, lambda rooms: _one(rooms, rooms.traces.record(find(rooms.experiments, place).id, wanted)))


async def get(call: Call, asked: ById) -> Answer:
    """One trace, without its spans."""
    return await ask(call, lambda rooms: _one(rooms, rooms.traces.get(asked.trace_id)))


async def get_many(call: Call, asked: ByIds) -> Infos:
    """Those traces that are there, without their spans."""

    def look(rooms: Rooms) -> Infos:
        default, found = _default(rooms), rooms.traces.get_many(asked.trace_ids)
        if asked.experiment_ids is not None:
            among = _ids(asked.experiment_ids, default)
            found = [trace for trace in found if trace.experiment_id in among]
        return Infos([trace_item(trace, default) for trace in found])

    return await ask(call, look)


async def get_whole(call: Call, asked: ById) -> Whole:
    """One trace with its spans."""
    return await ask(call, lambda rooms: Whole(_whole(rooms, rooms.traces.get(asked.trace_id))))


async def get_wholes(call: Call, asked: ByIds) -> Wholes:
    """Those traces that are there, with their spans."""

    def look(rooms: Rooms) -> Wholes:
        found = rooms.traces.get_many(asked.trace_ids)
        if asked.experiment_ids is not None:
            among = _ids(asked.experiment_ids, _default(rooms))
            found = [trace for trace in found if trace.experiment_id in among]
        return Wholes([_whole(rooms, trace) for trace in found])

    return await ask(call, look)


def spans_data(rooms: Rooms, trace: Trace) -> bytes:
    """The file `traces.json` of a trace: made of the spans that came one by one, else as its client sent it.

    Raises:
        NotFound: neither came.
        Invalid: the file is over 64 MiB.
    """
    if trace.spans:
        return spans_file(rooms.traces.spans(trace.id))
    file, stream = rooms.artifacts.open(f"trace:{trace.id}", SPANS_FILE)
    with stream:
        if file.size_bytes > _MAX_BYTES:
            raise Invalid(f"the spans of {trace.id} are over {_MAX_BYTES} bytes", next_step="download its traces.json")
        return stream.read()


def _whole(rooms: Rooms, trace: Trace) -> WholeTrace:
    item = trace_item(trace, _default(rooms))
    try:
        return WholeTrace(item, messages(spans_data(rooms, trace), trace.id))
    except NotFound:
        return WholeTrace(item)


async def search(call: Call, asked: Search) -> Page:
    """A page of traces, without their spans."""
    places = [_experiment(item) for item in asked.locations]

    def look(rooms: Rooms) -> Page:
        default = _default(rooms)
        page = rooms.traces.search(
            _ids(places, default), asked.filter, asked.order_by, asked.max_results, asked.page_token
        )
        return Page([trace_item(trace, default) for trace in page.traces], page.next)

    return await ask(call, look)


def ids_of(rooms: Rooms, experiments: list[str]) -> list[str]:
    """Our ids of experiments."""
    return _ids(experiments, _default(rooms))


def _ids(experiments: list[str], default: str) -> list[str]:
    return [default if our_id(item) == OUR_DEFAULT else item for item in experiments]


async def set_tag(call: Call, asked: Tag) -> None:
    """Set a tag. Where files are is the server's affair: a tag that says so is taken, and counts for nothing."""
    if asked.key not in (LOCATION, SPANS_LOCATION):
        await ask(call, lambda rooms: rooms.traces.set_tags(asked.trace_id, {asked.key: asked.value}))


async def delete_tag(call: Call, asked: Tag) -> None:
    """Take a tag off."""
    await ask(call, lambda rooms: rooms.traces.delete_tag(asked.trace_id, asked.key))


async def delete(call: Call, asked: Delete) -> Deleted:
    """Delete traces for good: those named, or the oldest up to a time."""
    if bool(asked.request_ids) == (asked.max_timestamp_millis is not None):
        raise Invalid("Either `max_timestamp_millis` or `trace_ids` must be specified, but not both.")
    if asked.request_ids and asked.max_traces is not None:
        raise Invalid("`max_traces` can't be specified if `trace_ids` is specified.")

    def work(rooms: Rooms) -> Deleted:
        experiment = find(rooms.experiments, asked.experiment_id).id
        if asked.max_timestamp_millis is None:
            return Deleted(rooms.traces.delete(experiment, asked.request_ids))
        # The whole millisecond belongs to it, as clients see no less.
        before = moment("max_timestamp_millis", min(asked.max_timestamp_millis, _LAST_MS) + 1) - datetime.resolution
        if asked.max_traces is not None:
            return Deleted(rooms.traces.delete_before(experiment, before, asked.max_traces))
        count = gone = rooms.traces.delete_before(experiment, before)
        while gone:
            gone = rooms.traces.delete_before(experiment, before)
            count += gone
        return Deleted(count)

    return await ask(call, work)


async def link(call: Call, asked: Link) -> None:
    """Link traces to a run."""
    await ask(call, lambda rooms: rooms.traces.link(asked.run_id, asked.trace_ids))


ENDPOINTS = (
    Endpoint("POST", BASE, "runs:write", Start, start),
    Endpoint("POST", f"{BASE}/search", "runs:read", Search, search),
    Endpoint("POST", f"{BASE}/batchGetInfos", "runs:read", ByIds, get_many),
    Endpoint("GET", f"{BASE}/get", "runs:read", ById, get_whole),
    Endpoint("GET", f"{BASE}/batchGet", "runs:read", ByIds, get_wholes),
    Endpoint("GET", f"{BASE}/{{trace_id}}", "runs:read", ById, get),
    *(
        endpoint
        for base in (BASE, OLD)
        for endpoint in (
            Endpoint("POST", f"{base}/delete-traces", "runs:write", Delete, delete),
            Endpoint("POST", f"{base}/link-to-run", "runs:write", Link, link),
            Endpoint("PATCH", f"{base}/{{trace_id}}/tags", "runs:write", Tag, set_tag),
            Endpoint("DELETE", f"{base}/{{trace_id}}/tags", "runs:write", Tag, delete_tag),
        )
    ),
)
