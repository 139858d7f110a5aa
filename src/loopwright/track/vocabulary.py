"""Which metrics, params and tags the runs of a project or an experiment have: what a search of them may name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, FromClause, Select, and_, func, select

from loopwright.track.keys import key_names
from loopwright.track.tables import run_lasts, run_params, run_tags, runs

_TABLES: dict[str, FromClause] = {"metrics": run_lasts.alias("lasts"), "params": run_params, "tags": run_tags}
_NEWEST = 500
_SAMPLE = 200


class KeysInUse(msgspec.Struct, frozen=True):
    """The keys of runs, in alphabetical order."""

    metrics: list[str]
    params: list[str]
    tags: list[str]


def keys_in_use(connection: Connection, project: str, experiment_id: str = "", newest: int = _NEWEST) -> KeysInUse:
    """All keys that a run of the project, or of one experiment, has; deleted runs do not count.

    The newest runs tell of almost all keys, and a look at a sample of each other key's rows of almost all the rest.
    Only while keys are left that many runs have, but none of those that were looked at, are all runs read.

    Args:
        newest: how many runs are read at first.
    """
    mine = [runs.c.project == project, runs.c.deleted_at.is_(None)]
    mine += [runs.c.experiment_id == experiment_id] if experiment_id else []
    all_of = select(runs.c.seq).where(*mine)
    some = all_of.order_by(runs.c.started_at.desc(), runs.c.seq.desc()).limit(newest)
    found: dict[str, set[int]] = {}
    for entity, table in _TABLES.items():
        known = _keys_of(connection, table, some)
        others = [id for id in connection.execute(_every_key(table)).scalars() if id not in known]
        used, unsure = _sampled(connection, table, others, mine)
        found[entity] = known | used | (_keys_of(connection, table, all_of) if unsure else set())
    names = key_names(connection, sorted(set().union(*found.values())))
    return KeysInUse(**{entity: sorted(names[id] for id in ids if id in names) for entity, ids in found.items()})


def _keys_of(connection: Connection, table: FromClause, seqs: Select[Any]) -> set[int]:
    query = select(table.c.key_id).distinct().where(table.c.run_seq.in_(seqs.scalar_subquery()))
    return set(connection.execute(query).scalars())


def _sampled(
    connection: Connection, table: FromClause, ids: Iterable[int], mine: Sequence[ColumnElement[bool]]
) -> tuple[set[int], bool]:
    """The keys that a run of ours has among the first rows of each; whether some have more rows than were read."""
    used: set[int] = set()
    unsure = False
    for id in ids:
        rows = select(table.c.run_seq).where(table.c.key_id == id).limit(_SAMPLE).subquery()
        ours = and_(runs.c.seq == rows.c.run_seq, *mine)
        counts = select(func.count(rows.c.run_seq), func.count(runs.c.seq)).select_from(rows.outerjoin(runs, ours))
        read, hit = connection.execute(counts).one()
        used |= {id} if hit else set()
        unsure |= not hit and read == _SAMPLE
    return used, unsure


def _every_key(table: FromClause) -> Select[Any]:
    """Each key of a table once, by one look into the index for each: the next that is higher than the last."""
    least = select(func.min(table.c.key_id).label("id")).cte(recursive=True)
    higher = select(func.min(table.c.key_id)).where(table.c.key_id > least.c.id).correlate(least).scalar_subquery()
    walked = least.union_all(select(higher).where(least.c.id.is_not(None)))
    return select(walked.c.id).where(walked.c.id.is_not(None))
