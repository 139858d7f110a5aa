"""Traces as clients of MLflow 2.14 to 2.22 tell of them: begun, ended, and with their spans in a file."""

from __future__ import annotations

from datetime import timedelta

from loopwright.core import new_id
from loopwright.server.protocols.mlflow import wire
from loopwright.server.protocols.mlflow.endpoint import Endpoint, Rooms, ask
from loopwright.server.protocols.mlflow.experiments import find
from loopwright.server.protocols.mlflow.records import Item, Pair, moment
from loopwright.server.protocols.mlflow.traces import OLD, SOURCE_RUN, ids_of, trace_item
from loopwright.server.route import Call
from loopwright.track import NewTrace, Trace, TraceState

_MS = timedelta(milliseconds=1)
_STATES = {
    "TRACE_STATUS_UNSPECIFIED": TraceState.UNKNOWN,
    "OK": TraceState.OK,
    "ERROR": TraceState.ERROR,
    "IN_PROGRESS": TraceState.RUNNING,
}
_NAMES = {state: name for name, state in _STATES.items()}


class OldItem(Item, frozen=True, kw_only=True):
    """What is known of a trace; times in milliseconds."""

    request_id: str
    experiment_id: str
    timestamp_ms: int
    execution_time_ms: int | None = None
    status: str = ""
    request_metadata: list[Pair] = []
    tags: list[Pair] = []


class Begin(wire.Request, frozen=True):
    experiment_id: str
    timestamp_ms: int
    request_metadata: list[Pair] = []
    tags: list[Pair] = []


class End(wire.Request, frozen=True):
    request_id: str
    timestamp_ms: int
    status: str
    request_metadata: list[Pair] = []
    tags: list[Pair] = []


class ById(wire.Request, frozen=True):
    request_id: str


class Search(wire.Request, frozen=True):
    experiment_ids: list[str]
    filter: str = ""
    max_results: int = 100
    order_by: list[str] = []
    page_token: str = ""


class One(Item, frozen=True):
    trace_info: OldItem


class Page(Item, frozen=True):
    traces: list[OldItem] = []
    next_page_token: str = ""


async def begin(call: Call, asked: Begin) -> One:
    """Begin a trace; its id is minted here."""
    metadata = _texts(asked.request_metadata)
    wanted = NewTrace(
        id=f"tr-{new_id()}",
        started_at=moment("timestamp_ms", asked.timestamp_ms),
        state=TraceState.RUNNING,
        run=metadata.get(SOURCE_RUN, ""),
        tags=_texts(asked.tags),
        metadata=metadata,
    )

    def work(rooms: Rooms) -> One:
        return One(_old(rooms, rooms.traces.record(find(rooms.experiments, asked.experiment_id).id, wanted)))

    return await ask(call, work)


async def end(call: Call, asked: End) -> One:
    """End a trace. What it is told with is added to what there is."""
    state = _STATES.get(asked.status)
    if state is None:
        raise wire.invalid("status", asked.status, f"use one of {', '.join(_STATES)}")
    ended_at = moment("timestamp_ms", asked.timestamp_ms)

    def work(rooms: Rooms) -> One:
        held = rooms.traces.get(asked.request_id)
        told = NewTrace(
            id=held.id,
            started_at=held.started_at,
            duration_ms=max((ended_at - held.started_at) // _MS, 0),
            state=state,
            run=held.run,
            client_request=held.client_request,
            request_preview=held.request_preview,
            response_preview=held.response_preview,
            tags=_texts(asked.tags),
            metadata=_texts(asked.request_metadata),
        )
        return One(_old(rooms, rooms.traces.record(held.experiment_id, told)))

    return await ask(call, work)


async def get(call: Call, asked: ById) -> One:
    """One trace, without its spans."""
    return await ask(call, lambda rooms: One(_old(rooms, rooms.traces.get(asked.request_id))))


async def search(call: Call, asked: Search) -> Page:
    """A page of traces, without their spans."""

    def look(rooms: Rooms) -> Page:
        among = ids_of(rooms, asked.experiment_ids)
        page = rooms.traces.search(among, asked.filter, asked.order_by, asked.max_results, asked.page_token)
        return Page([_old(rooms, trace) for trace in page.traces], page.next)

    return await ask(call, look)


def _texts(pairs: list[Pair]) -> dict[str, str]:
    return {pair.key: pair.value for pair in pairs}


def _old(rooms: Rooms, trace: Trace) -> OldItem:
    item = trace_item(trace, find(rooms.experiments, "0").id)
    place = item.trace_location.mlflow_experiment
    return OldItem(
        request_id=item.trace_id,
        experiment_id=place.experiment_id if place is not None else trace.experiment_id,
        timestamp_ms=round(trace.started_at.timestamp() * 1000),
        execution_time_ms=trace.duration_ms,
        status=_NAMES[trace.state],
        request_metadata=[Pair(key, value) for key, value in item.trace_metadata.items()],
        tags=[Pair(key, value) for key, value in item.tags.items()],
    )


ENDPOINTS = (
    Endpoint("POST", OLD, "runs:write", Begin, begin),
    Endpoint("GET", OLD, "runs:read", Search, search),
    Endpoint("PATCH", f"{OLD}/{{request_id}}", "runs:write", End, end),
    Endpoint("GET", f"{OLD}/{{request_id}}/info", "runs:read", ById, get),
)
