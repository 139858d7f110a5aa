"""The end of deleted versions: which may go with their bundles, and their removal.

The name keeps its row and with it the highest number that it gave, so that no number is ever given twice; the lineage
keeps what a version was made of, so that a prediction can still be traced.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, exists, select

from loopwright.core import parse_ref
from loopwright.models.tables import model_signatures, model_tags, model_versions
from loopwright.store import Lapse, Lapsed, Stores
from loopwright.track import refs_in_use

_columns = model_versions.c
_SELECTED: Select[Any] = select(
    _columns.project, _columns.name, _columns.version, _columns.run, _columns.model_id, _columns.deleted_at
)


def roots(connection: Connection) -> Iterator[tuple[str, str]]:
    """Every version that is not deleted, and the run and the logged model that it names: what it came from stays."""
    for row in connection.execute(_SELECTED.where(_columns.deleted_at.is_(None))):
        yield from _needs(row)


def lapse(
    connection: Connection, project: str | None, before: datetime, is_protected: Callable[[str, str], bool]
) -> Lapse:
    """The versions that were deleted before a time and may go, of the others why, and what deleted ones that stay
    need."""
    rows = connection.execute(_SELECTED.where(_columns.deleted_at.is_not(None))).all()
    wanted = [row for row in rows if row.deleted_at < before and project in (None, row.project)]
    used = _used(connection, wanted)
    kept: list[tuple[str, str]] = []
    going: list[Lapsed] = []
    for row in wanted:
        ref = _ref(row)
        words = (ref, f"model:{row.name}", f"project:{row.project}")
        if any(is_protected(row.project, word) for word in words):
            kept.append((ref, "an endpoint, a rollout, an approval or a hold needs it"))
        elif (row.project, ref) in used:
            kept.append((ref, "a run used it"))
        else:
            going.append(Lapsed(ref, row.project))
    gone = {(item.project, item.ref) for item in going}
    needs = (need for row in rows if (row.project, _ref(row)) not in gone for need in _needs(row))
    return Lapse(tuple(going), tuple(kept), tuple(needs))


def _used(connection: Connection, rows: Sequence[Row[Any]]) -> set[tuple[str, str]]:
    """Project and ref of the versions that a run which is not deleted took as an input."""
    refs: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        refs[row.project].append(_ref(row))
    return {(project, ref) for project, some in refs.items() for ref in refs_in_use(connection, project, some)}


def forget_lapsed(_stores: Stores, tx: Connection, lapsed: Sequence[Lapsed]) -> list[Lapsed]:
    """Remove those of the things that are versions and still deleted, with their tags; returns these.

    Signatures go with the last version of the project that holds what they sign.
    """
    removed: list[Lapsed] = []
    for item in lapsed:
        if item.kind != "model":
            continue
        ref = parse_ref(item.ref)
        mine = (_columns.project == item.project, _columns.name == ref.name, _columns.version == ref.version)
        deleted = model_versions.delete().where(*mine, _columns.deleted_at.is_not(None))
        if tx.execute(deleted).rowcount != 1:
            continue
        tags = model_tags.c
        tagged = (tags.project == item.project, tags.name == ref.name, tags.version == ref.version)
        tx.execute(model_tags.delete().where(*tagged))
        removed.append(item)
    if removed:
        _forget_signatures(tx)
    return removed


def _forget_signatures(tx: Connection) -> None:
    signed = model_signatures.c
    held = exists().where(_columns.project == signed.project, _columns.bundle == signed.bundle)
    tx.execute(model_signatures.delete().where(~held))


def _ref(row: Row[Any]) -> str:
    return f"model:{row.name}@{row.version}"


def _needs(row: Row[Any]) -> Iterator[tuple[str, str]]:
    yield row.project, _ref(row)
    if row.run:
        yield row.project, f"run:{row.run.removeprefix('run:')}"
    if row.model_id:
        yield row.project, f"logged_model:{row.model_id}"
