"""Scoring jobs as people declare them, in Python or in a YAML file; checked field by field before they are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loopwright.core import Invalid, check_name, parse_ref
from loopwright.loop.declare import check_triggers, convert_item, read_documents
from loopwright.loop.scoring.model import ScoringJob

_FIELDS = f"the fields of a scoring job are {', '.join(ScoringJob.__struct_fields__)}"


def load_scoring_jobs(path: str | Path) -> list[ScoringJob]:
    """The jobs in a YAML file: one, a list of them, or several documents.

    Raises:
        Invalid: the file cannot be read, is not YAML, or a field is missing, unknown or out of range.
    """
    jobs = [
        convert_item(item, ScoringJob, check_job, "scoring job", str(path), _FIELDS) for item in read_documents(path)
    ]
    if not jobs:
        raise Invalid("declares no scoring job", where=str(path), next_step=_FIELDS)
    return jobs


def check_job(job: ScoringJob) -> ScoringJob:
    """`job`, if every field of it makes sense.

    Raises:
        Invalid: naming the field, its value and what to write instead.
    """
    where = f"scoring job {job.name!r}"
    check_name("scoring job", job.name)
    _check_ref(job.model, ("model", "endpoint"), f"{where}, field model")
    for field in ("input", "output"):
        found = _check_ref(getattr(job, field), ("dataset", "table"), f"{where}, field {field}")
        if found.selector:
            raise Invalid(
                f"{found} names one version",
                where=f"{where}, field {field}",
                next_step=f"write {found.kind}:{found.name}: the newest version is read, a new one is made",
            )
    if job.input == job.output:
        raise Invalid(
            "the answers would become rows to score", where=f"{where}, field output", next_step="name another"
        )
    check_triggers(job.triggers, where)
    for field, lowest in (("attempts", 1), ("timeout_s", 1)):
        if not getattr(job, field) >= lowest:
            raise Invalid(
                f"{getattr(job, field)} is too low",
                where=f"{where}, field {field}",
                next_step=f"write at least {lowest}",
            )
    return job


def _check_ref(text: str, kinds: tuple[str, ...], where: str) -> Any:
    ways = " or ".join(f"{kind}:NAME" for kind in kinds)
    try:
        found = parse_ref(text)
    except Invalid as error:
        raise Invalid(error.message, where=where, next_step=f"write {ways}") from None
    hidden = found.kind == "table" and any(part.startswith((".", "_")) for part in found.name.split("/"))
    if found.kind not in kinds or hidden:
        raise Invalid(f"{text!r} cannot be used here", where=where, next_step=f"write {ways}, no hidden folder")
    return found
