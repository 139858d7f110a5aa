"""The words of traces."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

NAME_TAG = "mlflow.traceName"
"""The tag that a trace's name is kept as."""

SPANS_FILE = "traces.json"
"""The file of a trace that holds its spans."""


INPUTS, OUTPUTS, KIND = "mlflow.spanInputs", "mlflow.spanOutputs", "mlflow.spanType"
"""The attributes of a span that hold what went into it, what came out, and its kind."""


TAG_PREFIX = "mlflow.traceTag."
"""What an attribute of a root begins with that is a tag of its trace."""


class TraceState(StrEnum):
    UNKNOWN = "unknown"
    OK = "ok"
    ERROR = "error"
    RUNNING = "running"


class AssessmentKind(StrEnum):
    FEEDBACK = "feedback"
    EXPECTATION = "expectation"
    ISSUE = "issue"


class NewAssessment(msgspec.Struct, frozen=True, kw_only=True):
    """What is thought of a trace, or of one of its spans.

    `content` is what its kind holds: for feedback `{"value": …}` or `{"error": …}`, for an expectation
    `{"value": …}`, for an issue its name. `source_type` is `HUMAN`, `LLM_JUDGE` or `CODE`, `source_id` who or what
    exactly; `overrides` the id of another assessment of the trace that this one takes the place of.
    """

    kind: AssessmentKind
    name: str
    content: dict[str, Any]
    source_type: str = ""
    source_id: str = ""
    span: str = ""
    rationale: str = ""
    metadata: dict[str, str] = {}
    overrides: str = ""
    created_at: datetime | None = None


class AssessmentChange(msgspec.Struct, frozen=True, kw_only=True):
    """What of an assessment changes; `kind` says what the new content is meant to be."""

    kind: AssessmentKind | None = None
    name: str | None = None
    content: dict[str, Any] | None = None
    rationale: str | None = None
    metadata: dict[str, str] | None = None


class Assessment(NewAssessment, frozen=True, kw_only=True):
    """An assessment of a trace; `valid` is false where another one overrides it."""

    id: str
    trace: str
    valid: bool
    updated_at: datetime


class NewTrace(msgspec.Struct, frozen=True, kw_only=True):
    """A trace as its maker tells it. `id` is `tr-` and 32 hex digits, made with the trace's first span."""

    id: str
    started_at: datetime
    duration_ms: int | None = None
    state: TraceState = TraceState.UNKNOWN
    run: str = ""
    client_request: str = ""
    request_preview: str = ""
    response_preview: str = ""
    tags: dict[str, str] = {}
    metadata: dict[str, str] = {}
    assessments: tuple[NewAssessment, ...] = ()


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one request, but for its spans: `spans` were sent one by one and are read with them; where that
    is 0, they are in the file `traces.json` of `trace:<id>`."""

    id: str
    experiment_id: str
    state: TraceState
    started_at: datetime
    duration_ms: int | None = None
    run: str = ""
    linked_runs: tuple[str, ...] = ()
    client_request: str = ""
    request_preview: str = ""
    response_preview: str = ""
    actor: str = ""
    tags: dict[str, str] = {}
    metadata: dict[str, str] = {}
    assessments: tuple[Assessment, ...] = ()
    spans: int = 0

    @property
    def name(self) -> str:
        """The name of its first span."""
        return self.tags.get(NAME_TAG, "")


class SpanStatus(StrEnum):
    UNSET = "unset"
    OK = "ok"
    ERROR = "error"


class SpanEvent(msgspec.Struct, frozen=True):
    """Something that happened at one moment of a span, such as an exception."""

    name: str
    at_ns: int
    attributes: dict[str, Any] = {}


class SpanLink(msgspec.Struct, frozen=True):
    """A span of another trace that has to do with this one: ids in hex digits, 32 and 16."""

    trace: str
    span: str
    attributes: dict[str, Any] = {}


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a request. `trace` is `tr-` and 32 hex digits, `id` and `parent` are 16; times are Unix nanoseconds.

    A span without a parent is the trace's root. One without an end is under way.
    """

    trace: str
    id: str
    name: str
    started_ns: int
    ended_ns: int | None = None
    parent: str = ""
    status: SpanStatus = SpanStatus.UNSET
    message: str = ""
    attributes: dict[str, Any] = {}
    events: tuple[SpanEvent, ...] = ()
    links: tuple[SpanLink, ...] = ()

    @property
    def kind(self) -> str:
        """What it does, such as `LLM` or `TOOL`; empty where its maker does not say."""
        found = self.attributes.get(KIND, "")
        return found if isinstance(found, str) else ""


class SpansKept(msgspec.Struct, frozen=True):
    """How many spans are kept, how many are not, and why."""

    kept: int
    refused: int = 0
    why: str = ""


class TracePage(msgspec.Struct, frozen=True):
    """Traces of one page; `next` asks for the page after it, and is empty on the last one."""

    traces: list[Trace]
    next: str = ""
