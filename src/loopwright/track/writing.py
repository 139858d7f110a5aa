"""Statements that change a run, each inside a transaction that its caller opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Table, select

from loopwright.core import Conflict, Invalid, NotFound
from loopwright.store import Database
from loopwright.track.keys import ByNumbers, find_keys, intern_keys
from loopwright.track.model import RunInput
from loopwright.track.revisions import touch
from loopwright.track.search.matching import dataset_of
from loopwright.track.tables import run_inputs, run_params, run_tags
from loopwright.track.values import check_key, check_text, head_of


def write_texts(
    database: Database, tx: Connection, run: Row[Any] | int, params: Mapping[str, str], tags: Mapping[str, str]
) -> None:
    """Add params and set tags. A param keeps its first value.

    Raises:
        Invalid: a key or a value cannot be stored.
        Conflict: a param has another value already.
    """
    seq = run if isinstance(run, int) else run.seq
    touch(tx, [seq])
    write_first_texts(database, tx, seq, params, tags)


def write_first_texts(
    database: Database, tx: Connection, seq: int, params: Mapping[str, str], tags: Mapping[str, str]
) -> None:
    """The same for a run that this transaction has added.

    Raises:
        Invalid, Conflict: as `write_texts`.
    """
    for noun, texts in (("param", params), ("tag", tags)):
        for key, text in texts.items():
            check_text(noun, check_key(noun, key), text)
    put_texts(database, tx, intern_keys(database, tx, {*params, *tags}), {seq: params}, {seq: tags})


def put_texts(
    database: Database,
    tx: Connection,
    key_ids: Mapping[str, int],
    params: Mapping[int, Mapping[str, str]],
    tags: Mapping[int, Mapping[str, str]],
) -> None:
    """Add params and set tags that have been checked, by run number; the runs have been touched.

    Raises:
        Conflict: a param has another value already.
    """
    if any(params.values()) and not _put(database, tx, run_params, (), _rows(key_ids, params)):
        _refuse_changed(tx, key_ids, params)
    if any(tags.values()):
        _put(database, tx, run_tags, ("value", "head"), _rows(key_ids, tags))


def _put(
    database: Database, tx: Connection, table: Table, changed: tuple[str, ...], rows: Sequence[dict[str, Any]]
) -> bool:
    """Add rows, with new values for `changed` in those that are there; whether all have been added or changed."""
    if database.dialect == "sqlite":
        done = tx.execute(database.upsert(table, {}, _PLACE, changed), rows)
    else:  # whole columns: a step for each row would cost as much as ten rows
        columns = tuple([row[name] for row in rows] for name in (*_PLACE, "value", "head"))
        done = tx.exec_driver_sql(_PUT_MANY[table.name], columns)
    return done.rowcount == len(rows)


_PLACE = ("run_seq", "key_id")
_UNNESTED = (
    "INSERT INTO {table} (run_seq, key_id, value, head) "
    "SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[]) ON CONFLICT (run_seq, key_id) DO {else}"
)
_PUT_MANY = {
    "run_params": _UNNESTED.format_map({"table": "run_params", "else": "NOTHING"}),
    "run_tags": _UNNESTED.format_map(
        {"table": "run_tags", "else": "UPDATE SET value = excluded.value, head = excluded.head"}
    ),
}


def stored_params(tx: Connection, key_ids: Mapping[str, int], seqs: Sequence[int]) -> dict[int, dict[str, str]]:
    """The values that runs have already of params with these keys."""
    keys = {number: key for key, number in key_ids.items()}
    found: dict[int, dict[str, str]] = {}
    # Of few runs only these params are looked up, since one run may have thousands; of many, all are read.
    few = len(seqs) * len(keys) <= _MOST_LOOKUPS
    for seq, key_id, value in _FEW.rows(tx, seqs, keys) if few else _ALL.rows(tx, seqs):
        if key_id in keys:
            found.setdefault(seq, {})[keys[key_id]] = value
    return found


_MOST_LOOKUPS = 1_000
_PARAMS = select(run_params.c.run_seq, run_params.c.key_id, run_params.c.value)
_FEW, _ALL = ByNumbers(_PARAMS, run_params.c.run_seq, run_params.c.key_id), ByNumbers(_PARAMS, run_params.c.run_seq)


def changed_param(key: str, stored: str, given: str) -> Conflict:
    """The error for a param that is given a second value."""
    return Conflict(
        f"param {key!r} is {_short(stored)} already and cannot become {_short(given)}",
        next_step="start another run, or keep what changes as a metric or tag",
    )


def write_inputs(database: Database, tx: Connection, seq: int, inputs: Sequence[RunInput]) -> None:
    """Note what a run read; the same ref twice is one input.

    Raises:
        Invalid: a text is longer than what is kept of it.
    """
    if inputs:
        touch(tx, [seq])
        rows = [{"run_seq": seq, **_input(item)} for item in inputs]
        changed = ["name", "digest", "dataset", "context"]
        tx.execute(database.upsert(run_inputs, {}, ["run_seq", "ref"], changed), rows)


def remove_tag(database: Database, tx: Connection, run: Row[Any], key: str) -> None:
    """Take a tag off a run.

    Raises:
        NotFound: the run has no such tag.
    """
    touch(tx, [run.seq])
    key_id = find_keys(database, tx, [key]).get(key, 0)
    mine = (run_tags.c.run_seq == run.seq) & (run_tags.c.key_id == key_id)
    if tx.execute(run_tags.delete().where(mine)).rowcount != 1:
        raise NotFound(f"run {run.id} has no tag {key[:250]!r}")


_INPUT_LIMITS = {"ref": 300, "name": 250, "digest": 64, "dataset": 500, "context": 250}
"""The lengths of the columns of `run_inputs`, which SQLite does not hold."""


def _input(item: RunInput) -> dict[str, str]:
    texts = {
        "ref": item.ref,
        "name": item.name,
        "digest": item.digest,
        "dataset": dataset_of(item),
        "context": item.context or item.name,
    }
    for name, text in texts.items():
        most = _INPUT_LIMITS[name]
        if len(text) > most:
            raise Invalid(
                f"the {name} of the input {item.ref[:60]!r} has {len(text):,} characters",
                next_step=f"give up to {most}",
            )
    return texts


def _rows(key_ids: Mapping[str, int], texts: Mapping[int, Mapping[str, str]]) -> list[dict[str, Any]]:
    return [
        {"run_seq": seq, "key_id": key_ids[key], "value": text, "head": head_of(text)}
        for seq, some in sorted(texts.items())
        for key, text in sorted(some.items())
    ]


def _refuse_changed(tx: Connection, key_ids: Mapping[str, int], params: Mapping[int, Mapping[str, str]]) -> None:
    stored = stored_params(tx, key_ids, sorted(params))
    for seq, some in params.items():
        for key, text in some.items():
            if stored[seq][key] != text:
                raise changed_param(key, stored[seq][key], text)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}…")
