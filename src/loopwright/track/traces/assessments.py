"""Assessments of traces: what somebody thinks of a trace, or what the right answer would have been.

They are rows of their own, since they come long after the trace and often from others than its maker.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, func, insert, select, update

from loopwright.core import Invalid, NotFound, Scope, new_id, operation
from loopwright.store import Stores
from loopwright.track.traces.model import Assessment, AssessmentChange, NewAssessment
from loopwright.track.traces.reading import assessment_of, the_trace
from loopwright.track.traces.tables import trace_assessments
from loopwright.track.values import check_key, check_text

_MAX_CONTENT = 100_000
_MAX_ON_A_TRACE = 1000
_columns = trace_assessments.c


class Assessing:
    """What one can ask of the assessments of traces."""

    stores: Stores
    scope: Scope

    @operation("traces.assess", permission="runs:write", effect="write")
    def assess(self, trace: str, assessment: NewAssessment) -> Assessment:
        """Add an assessment to a trace. One that overrides another makes that invalid.

        Raises:
            NotFound: there is no such trace, or it has no assessment that this one could override.
            Invalid: something cannot be stored, or the trace has 1,000 assessments already.
        """
        with self.stores.db.begin() as tx:
            the_trace(tx, self.scope.project, trace)
            self.stores.db.lock(tx, f"trace {trace}")
            if assessment.overrides:
                the_assessment(tx, trace, assessment.overrides)
                tx.execute(update(trace_assessments).where(_columns.id == assessment.overrides).values(valid=False))
            [id] = add_assessments(tx, trace, [assessment], self.stores.clock.now())
            return assessment_of(the_assessment(tx, trace, id))

    @operation("traces.assessment", permission="runs:read")
    def assessment(self, trace: str, assessment: str) -> Assessment:
        """One assessment of a trace.

        Raises:
            NotFound: there is no such trace, or it has no such assessment.
        """
        with self.stores.db.read() as connection:
            the_trace(connection, self.scope.project, trace)
            return assessment_of(the_assessment(connection, trace, assessment))

    @operation("traces.reassess", permission="runs:write", effect="write")
    def reassess(self, trace: str, assessment: str, change: AssessmentChange) -> Assessment:
        """Change what is given; metadata is added to what there is. Its kind, its source and its span stay.

        Raises:
            NotFound: there is no such trace, or it has no such assessment.
            Invalid: something cannot be stored, or the value is of another kind.
        """
        with self.stores.db.begin() as tx:
            the_trace(tx, self.scope.project, trace)
            self.stores.db.lock(tx, f"trace {trace}")
            held = assessment_of(the_assessment(tx, trace, assessment))
            if change.kind is not None and change.kind is not held.kind:
                raise Invalid(
                    f"Cannot update {change.kind} value on a {held.kind} assessment", next_step=f"give its {held.kind}"
                )
            given: dict[str, Any] = {
                "name": held.name if change.name is None else change.name,
                "content": held.content if change.content is None else change.content,
                "rationale": held.rationale if change.rationale is None else change.rationale,
                "metadata": {**held.metadata, **(change.metadata or {})},
            }
            _check(msgspec.structs.replace(_draft(held), **given))
            given["updated_at"] = self.stores.clock.now()
            tx.execute(update(trace_assessments).where(_columns.id == held.id).values(given))
            return assessment_of(the_assessment(tx, trace, assessment))

    @operation("traces.delete_assessment", permission="runs:write", effect="write")
    def delete_assessment(self, trace: str, assessment: str) -> bool:
        """Delete an assessment; what it overrode counts again. Whether it was there.

        Raises:
            NotFound: there is no such trace.
        """
        with self.stores.db.begin() as tx:
            the_trace(tx, self.scope.project, trace)
            self.stores.db.lock(tx, f"trace {trace}")
            mine = (_columns.trace == trace, _columns.id == assessment)
            held = tx.execute(select(_columns.overrides).where(*mine)).one_or_none()
            if held is None:
                return False
            if held.overrides:
                theirs = (_columns.trace == trace, _columns.id == held.overrides)
                tx.execute(update(trace_assessments).where(*theirs).values(valid=True))
            tx.execute(delete(trace_assessments).where(*mine))
            return True


def add_assessments(tx: Connection, trace: str, given: Sequence[NewAssessment], now: datetime) -> list[str]:
    """Keep assessments of a trace in the caller's transaction; their new ids.

    Raises:
        Invalid: something cannot be stored, or there would be more than 1,000.
    """
    if not given:
        return []
    for item in given:
        _check(item)
    query = select(func.count()).select_from(trace_assessments).where(_columns.trace == trace)
    if tx.execute(query).scalar_one() + len(given) > _MAX_ON_A_TRACE:
        raise Invalid(f"the trace {trace} has too many assessments", next_step=f"keep up to {_MAX_ON_A_TRACE:,}")
    rows = [{**_row(item, now), "id": f"a-{new_id()}", "trace": trace} for item in given]
    tx.execute(insert(trace_assessments), rows)
    return [str(row["id"]) for row in rows]


def the_assessment(connection: Connection, trace: str, assessment: str) -> Row[Any]:
    """The row of an assessment.

    Raises:
        NotFound: the trace has none of that id.
    """
    query = select(trace_assessments).where(_columns.trace == trace, _columns.id == assessment)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound(
            f"Assessment with ID '{assessment[:80]}' not found for trace '{trace}'", next_step="see the trace"
        )
    return row


def _row(item: NewAssessment, now: datetime) -> dict[str, Any]:
    values = msgspec.structs.asdict(item)
    values |= {"kind": str(item.kind), "created_at": item.created_at or now, "updated_at": item.created_at or now}
    return {**values, "valid": True}


def _check(item: NewAssessment) -> None:
    check_key("assessment", item.name)
    for field in ("source_type", "source_id", "span", "rationale", "overrides"):
        check_text("assessment", field, getattr(item, field))
    if max(len(item.source_type), len(item.span), len(item.overrides)) > 64 or len(item.source_id) > 250:
        raise Invalid(f"the source or span of the assessment {item.name[:60]!r} is too long", next_step="shorten it")
    for key, text in item.metadata.items():
        check_text("metadata", check_key("metadata", key), text)
    size = len(msgspec.json.encode(item.content))
    if size > _MAX_CONTENT:
        raise Invalid(
            f"the value of the assessment {item.name[:60]!r} has {size:,} bytes; the limit is {_MAX_CONTENT:,}",
            next_step="keep it as a file of the trace",
        )


def _draft(held: Assessment) -> NewAssessment:
    return NewAssessment(**{name: getattr(held, name) for name in NewAssessment.__struct_fields__})
