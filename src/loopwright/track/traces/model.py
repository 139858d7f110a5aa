"""The words of traces."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec

NAME_TAG = "mlflow.traceName"
"""The tag that a trace's name is kept as."""

SPANS_FILE = "traces.json"
"""The file of a trace that holds its spans."""


class TraceState(StrEnum):
    UNKNOWN = "unknown"
    OK = "ok"
    ERROR = "error"
    RUNNING = "running"


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


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one request, but for its spans; those are in the file `traces.json` of `trace:<id>`."""

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

    @property
    def name(self) -> str:
        """The name of its first span."""
        return self.tags.get(NAME_TAG, "")


class TracePage(msgspec.Struct, frozen=True):
    """Traces of one page; `next` asks for the page after it, and is empty on the last one."""

    traces: list[Trace]
    next: str = ""
