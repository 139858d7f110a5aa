"""Traces: what requests went through. A table to search, and a page of one with its spans along its time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from loopwright.core import Invalid, LoopwrightError
from loopwright.server import Call
from loopwright.track import SPANS_FILE, Span, Trace, TracePage, spans_of_file
from loopwright.ui.page import View

_PAGE, _EXPERIMENTS = 100, 1000
_MOST_SPANS = 1000
_MOST_BYTES = 16 << 20
_MOST_CHARACTERS = 20_000
_INPUTS, _OUTPUTS, _OWN = "mlflow.spanInputs", "mlflow.spanOutputs", "mlflow."
_TRAIL = (("Runs", ("runs",)), ("Traces", ("traces",)))


async def traces(call: Call) -> View:
    """Traces that match a filter, newest first."""
    query = call.request.query_params
    filter, chosen = query.get("filter", ""), query.get("experiment", "")
    problem, found = "", TracePage([])
    try:
        found = await call.ask(
            "traces.search",
            experiments=[chosen] if chosen else None,
            filter=filter,
            limit=_PAGE,
            after=query.get("after", ""),
        )
    except Invalid as error:
        problem = str(error)
    experiments = await call.ask("runs.experiments", limit=_EXPERIMENTS)
    values = {
        "traces": found.traces,
        "names": {item.id: item.name for item in experiments},
        "filter": filter,
        "experiment": chosen,
        "problem": problem,
        "next": found.next,
    }
    return View("Traces", "traces.html", values, section="runs", trail=_TRAIL[:1])


async def trace(call: Call) -> View:
    """One trace: its spans below each other as they called each other, what is thought of it, and its tags."""
    found: Trace = await call.ask("traces.get", trace=call.request.path_params["trace"])
    spans, trouble = await _spans(call, found)
    values = {
        "trace": found,
        "experiment": await _experiment(call, found.experiment_id),
        "spans": _laid_out(spans[:_MOST_SPANS]),
        "count": len(spans),
        "trouble": trouble,
        "tags": {key: value for key, value in found.tags.items() if not key.startswith(_OWN)},
    }
    return View(found.name or found.id, "trace.html", values, section="runs", trail=_TRAIL)


async def _experiment(call: Call, id: str) -> str:
    """An experiment's name; its id where it was deleted."""
    named = await call.ask("runs.experiments", limit=_EXPERIMENTS)
    return next((item.name for item in named if item.id == id), id)


async def _spans(call: Call, trace: Trace) -> tuple[list[Span], str]:
    """The spans, whether they came one by one or as a file; why there are none."""
    if trace.spans:
        return await call.ask("traces.spans", trace=trace.id), ""
    artifacts = call.services.service("artifacts", call.scope)

    def read() -> list[Span]:
        _, stream = artifacts.open(f"trace:{trace.id}", SPANS_FILE)
        with stream:
            data = stream.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise Invalid(f"the file {SPANS_FILE} is over {_MOST_BYTES >> 20} MiB, too large for a page")
        return spans_of_file(data, trace.id)

    try:
        return await call.services.in_thread(read), ""
    except LoopwrightError as error:
        return [], error.message


def _laid_out(spans: Sequence[Span]) -> list[dict[str, Any]]:
    """The rows of a waterfall: each span behind the one that called it, with where it lies in the whole time."""
    if not spans:
        return []
    begin = min(span.started_ns for span in spans)
    end = max(span.ended_ns or span.started_ns for span in spans)
    whole = max(end - begin, 1)
    rows: list[dict[str, Any]] = []
    for span, depth in _in_order(spans):
        until = span.ended_ns if span.ended_ns is not None else end
        rows.append(
            {
                "span": span,
                "depth": depth,
                "left": round(100 * (span.started_ns - begin) / whole, 3),
                "width": round(100 * max(until - span.started_ns, 0) / whole, 3),
                "seconds": None if span.ended_ns is None else (span.ended_ns - span.started_ns) / 1e9,
                "inputs": _text(span.attributes.get(_INPUTS)),
                "outputs": _text(span.attributes.get(_OUTPUTS)),
                "attributes": _others(span.attributes),
            }
        )
    return rows


def _in_order(spans: Sequence[Span]) -> list[tuple[Span, int]]:
    """The spans with their depths, parents first. One whose parent is not here, or is below it, stands at the top."""
    known = {span.id for span in spans}
    below: dict[str, list[Span]] = {}
    for span in sorted(spans, key=lambda span: (span.started_ns, span.id)):
        below.setdefault(span.parent if span.parent in known else "", []).append(span)
    found: dict[str, tuple[Span, int]] = {}

    def follow(first: Sequence[Span]) -> None:
        waiting = [(span, 0) for span in reversed(first)]
        while waiting:
            span, depth = waiting.pop()
            if span.id not in found:
                found[span.id] = (span, depth)
                waiting += [(child, depth + 1) for child in reversed(below.get(span.id, ()))]

    follow(below.get("", ()))
    for span in spans:
        follow([span])
    return list(found.values())


def _others(attributes: Mapping[str, Any]) -> dict[str, str]:
    """What else a span tells: neither its inputs and outputs nor what MLflow keeps for itself."""
    return {key: _text(value) for key, value in attributes.items() if not key.startswith(_OWN)}


def _text(value: Any) -> str:
    """A value as people read it: text as it is, the rest as JSON; a long one is cut."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}… ({len(text):,} characters)"
