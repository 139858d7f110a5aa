"""Assessments of traces over MLflow's protocol: feedback, expectations and references to issues."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import msgspec

from loopwright.core import Invalid
from loopwright.server.protocols.mlflow import wire
from loopwright.server.protocols.mlflow.endpoint import Endpoint, ask
from loopwright.server.protocols.mlflow.records import Item
from loopwright.server.route import Call
from loopwright.track import Assessment, AssessmentChange, AssessmentKind, NewAssessment

BASE = "/api/3.0/mlflow/traces/{trace_id}/assessments"
_KINDS = {kind: str(kind) for kind in AssessmentKind}
_CHANGED = ("assessment_name", "feedback", "expectation", "rationale", "metadata")


class Source(Item, frozen=True):
    source_type: str = ""
    source_id: str = ""


class AssessmentItem(Item, frozen=True, kw_only=True):
    """An assessment; which of feedback, expectation and issue it has says what kind it is."""

    assessment_id: str = ""
    assessment_name: str = ""
    trace_id: str = ""
    span_id: str = ""
    source: Source = Source()
    create_time: str = ""
    last_update_time: str = ""
    feedback: dict[str, Any] | None = None
    expectation: dict[str, Any] | None = None
    issue: dict[str, Any] | None = None
    rationale: str = ""
    error: dict[str, Any] | None = None
    metadata: dict[str, str] = {}
    overrides: str = ""
    valid: bool | None = None


class One(Item, frozen=True):
    assessment: AssessmentItem


class Create(wire.Request, frozen=True):
    trace_id: str
    assessment: AssessmentItem


class ById(wire.Request, frozen=True):
    trace_id: str
    assessment_id: str


class Update(wire.Request, frozen=True):
    trace_id: str
    assessment_id: str
    assessment: AssessmentItem
    update_mask: str


def assessment_item(held: Assessment) -> AssessmentItem:
    """An assessment in MLflow's words."""
    return AssessmentItem(
        assessment_id=held.id,
        assessment_name=held.name,
        trace_id=held.trace,
        span_id=held.span,
        source=Source(held.source_type, held.source_id),
        create_time=_text(held.created_at or held.updated_at),
        last_update_time=_text(held.updated_at),
        rationale=held.rationale,
        metadata=held.metadata,
        overrides=held.overrides,
        valid=held.valid,
        **{_KINDS[held.kind]: held.content},
    )


def new_assessment(item: AssessmentItem) -> NewAssessment:
    """An assessment as a client tells it. Its id, and whether it is valid, are the server's affair.

    Raises:
        Invalid: it has no name, or not exactly one kind of value.
    """
    if not item.assessment_name:
        raise wire.missing("assessment.assessment_name")
    kind, content = _content(item)
    return NewAssessment(
        kind=kind,
        name=item.assessment_name,
        content=content,
        source_type=item.source.source_type,
        source_id=item.source.source_id,
        span=item.span_id,
        rationale=item.rationale,
        metadata=item.metadata,
        overrides=item.overrides,
        created_at=_time(item.create_time),
    )


def _content(item: AssessmentItem) -> tuple[AssessmentKind, dict[str, Any]]:
    found = [(kind, value) for kind, name in _KINDS.items() if (value := getattr(item, name)) is not None]
    if len(found) != 1:
        raise Invalid("Exactly one of `expectation`, `feedback`, or `issue` should be specified.")
    kind, content = found[0]
    if item.error is not None and kind is AssessmentKind.FEEDBACK:
        content = {"error": item.error, **content}
    if kind is AssessmentKind.EXPECTATION and isinstance(content.get("value"), dict | list):
        text = json.dumps(content["value"], ensure_ascii=False)
        content = {"serialized_value": {"serialization_format": "JSON_FORMAT", "value": text}}
    return kind, content


def _time(text: str) -> datetime | None:
    if not text:
        return None
    try:
        found = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        raise wire.invalid("create_time", text, "write it as '2026-11-22T09:30:00.250Z'") from None
    if found.tzinfo is None:
        raise wire.invalid("create_time", text, "write its zone, such as Z")
    return found


def _text(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def _change(item: AssessmentItem, mask: str) -> AssessmentChange:
    """What the fields named in a mask say; protobuf writes their names in camel case."""
    paths = {"".join(f"_{sign.lower()}" if sign.isupper() else sign for sign in path) for path in mask.split(",")}
    unknown = sorted(paths - set(_CHANGED))
    if unknown:
        raise wire.invalid("update_mask", mask, f"use {', '.join(_CHANGED)}")
    if {"feedback", "expectation"} <= paths:
        raise Invalid("Exactly one of `expectation` or `feedback` should be specified.")
    kind, content = _content(item) if paths & {"feedback", "expectation"} else (None, None)
    return AssessmentChange(
        kind=kind,
        content=content,
        name=item.assessment_name if "assessment_name" in paths else None,
        rationale=item.rationale if "rationale" in paths else None,
        metadata=item.metadata if "metadata" in paths else None,
    )


async def create(call: Call, asked: Create) -> One:
    """Add an assessment to a trace."""
    wanted = new_assessment(asked.assessment)
    return One(assessment_item(await ask(call, lambda rooms: rooms.traces.assess(asked.trace_id, wanted))))


async def get(call: Call, asked: ById) -> One:
    """One assessment."""
    found = await ask(call, lambda rooms: rooms.traces.assessment(asked.trace_id, asked.assessment_id))
    return One(assessment_item(found))


async def update(call: Call, asked: Update) -> One:
    """Change what the mask names."""
    change = _change(asked.assessment, asked.update_mask)
    changed = await ask(call, lambda rooms: rooms.traces.reassess(asked.trace_id, asked.assessment_id, change))
    return One(assessment_item(changed))


async def delete(call: Call, asked: ById) -> None:
    """Delete an assessment; one that is not there is deleted already."""
    await ask(call, lambda rooms: rooms.traces.delete_assessment(asked.trace_id, asked.assessment_id))


ENDPOINTS = (
    Endpoint("POST", BASE, "runs:write", Create, create),
    Endpoint("GET", f"{BASE}/{{assessment_id}}", "runs:read", ById, get),
    Endpoint("PATCH", f"{BASE}/{{assessment_id}}", "runs:write", Update, update),
    Endpoint("DELETE", f"{BASE}/{{assessment_id}}", "runs:write", ById, delete),
)
