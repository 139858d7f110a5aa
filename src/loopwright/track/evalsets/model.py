"""The words of evaluation sets."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec


class EvalSet(msgspec.Struct, frozen=True, kw_only=True):
    """A named collection of records, and the experiments (by id) that use it.

    `fields` names what is in the inputs, outputs and expectations of its records, with the kind of each.
    """

    id: str
    name: str
    digest: str
    created_at: datetime
    updated_at: datetime
    created_by: str
    updated_by: str
    records: int = 0
    fields: dict[str, dict[str, str]] = {}
    tags: dict[str, str] = {}
    experiments: tuple[str, ...] = ()


class NewEvalRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked, what came out, what was expected. `source` tells where it comes from, such as a trace."""

    inputs: dict[str, Any]
    outputs: Any = None
    expectations: dict[str, Any] | None = None
    tags: dict[str, str] = {}
    source: dict[str, Any] | None = None


class EvalRecord(NewEvalRecord, frozen=True, kw_only=True):
    """A record of a set; its inputs are those of no other record there."""

    id: str
    eval_set: str
    created_at: datetime
    updated_at: datetime
    created_by: str
    updated_by: str


class EvalUpsert(msgspec.Struct, frozen=True):
    """How many records are new, and how many were there."""

    inserted: int
    updated: int


class EvalSetPage(msgspec.Struct, frozen=True):
    """Sets of one page; `next` asks for the page after it, and is empty on the last one."""

    sets: list[EvalSet]
    next: str = ""


class EvalRecordPage(msgspec.Struct, frozen=True):
    """Records of one page; `next` asks for the page after it, and is empty on the last one."""

    records: list[EvalRecord]
    next: str = ""
