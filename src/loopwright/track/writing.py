"""Statements that change a run, each inside a transaction that its caller opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Table, select

from loopwright.core import Conflict, NotFound
from loopwright.store import Database
from loopwright.track.keys import find_keys, intern_keys
from loopwright.track.model import RunInput
from loopwright.track.tables import run_inputs, run_params, run_tags
from loopwright.track.values import check_key, check_text, head_of

_MAX_NAME = 500


def write_texts(
    database: Database, tx: Connection, run: Row[Any] | int, params: Mapping[str, str], tags: Mapping[str, str]
) -> None:
    """Add params and set tags. A param keeps its first value.

    Raises:
        Invalid: a key or a value cannot be stored.
        Conflict: a param has another value already.
    """
    seq = run if isinstance(run, int) else run.seq
    for noun, texts in (("param", params), ("tag", tags)):
        for key, text in texts.items():
            check_text(noun, check_key(noun, key), text)
    key_ids = intern_keys(database, tx, {*params, *tags})
    if params:
        tx.execute(database.upsert(run_params, {}, ["run_seq", "key_id"]), _rows(seq, key_ids, params))
        _refuse_changed(tx, seq, key_ids, params)
    if tags:
        tx.execute(database.upsert(run_tags, {}, ["run_seq", "key_id"], ["value", "head"]), _rows(seq, key_ids, tags))


def write_inputs(database: Database, tx: Connection, seq: int, inputs: Sequence[RunInput]) -> None:
    """Note what a run read; the same ref twice is one input."""
    if inputs:
        rows = [{"run_seq": seq, **_input(item)} for item in inputs]
        changed = ["name", "digest", "dataset", "context"]
        tx.execute(database.upsert(run_inputs, {}, ["run_seq", "ref"], changed), rows)


def remove_tag(database: Database, tx: Connection, run: Row[Any], key: str) -> None:
    """Take a tag off a run.

    Raises:
        NotFound: the run has no such tag.
    """
    key_id = find_keys(database, tx, [key]).get(key, 0)
    mine = (run_tags.c.run_seq == run.seq) & (run_tags.c.key_id == key_id)
    if tx.execute(run_tags.delete().where(mine)).rowcount != 1:
        raise NotFound(f"run {run.id} has no tag {key[:250]!r}")


def _input(item: RunInput) -> dict[str, str]:
    kind, _, rest = item.ref.partition(":")
    dataset = item.dataset or (rest.partition("@")[0] if kind == "dataset" else "")
    return {
        "ref": item.ref,
        "name": item.name,
        "digest": item.digest,
        "dataset": dataset,
        "context": item.context or item.name,
    }


def _rows(seq: int, key_ids: Mapping[str, int], texts: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {"run_seq": seq, "key_id": key_ids[key], "value": text, "head": head_of(text)}
        for key, text in sorted(texts.items())
    ]


def _refuse_changed(tx: Connection, seq: int, key_ids: Mapping[str, int], params: Mapping[str, str]) -> None:
    stored = _stored(tx, run_params, seq)
    for key, text in params.items():
        if stored[key_ids[key]] != text:
            raise Conflict(
                f"param {key!r} is {_short(stored[key_ids[key]])} already and cannot become {_short(text)}",
                next_step="start another run, or keep what changes as a metric or tag",
            )


def _stored(tx: Connection, table: Table, seq: int) -> dict[int, str]:
    query = select(table.c.key_id, table.c.value).where(table.c.run_seq == seq)
    return {row.key_id: row.value for row in tx.execute(query)}


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}…")
