"""Statements that change a run, each inside a transaction that its caller opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Table, select, update

from loopwright.core import Conflict, Invalid, check_name, new_id
from loopwright.store import Database
from loopwright.track.keys import intern_keys
from loopwright.track.model import Experiment, RunInput, RunStatus
from loopwright.track.reading import find_experiment
from loopwright.track.tables import experiments, run_inputs, run_params, run_tags, runs
from loopwright.track.values import check_key, check_text, head_of

_MAX_NAME = 500


def ensure_experiment(database: Database, tx: Connection, project: str, name: str, now: datetime) -> Experiment:
    """The experiment of that name, made if there is none."""
    _check_title("experiment", name)
    found = find_experiment(tx, project, name)
    if found is not None:
        return found
    row = {"id": new_id(), "project": project, "name": name, "created_at": now}
    tx.execute(database.upsert(experiments, row, ["project", "name"]))
    made = find_experiment(tx, project, name)
    if made is None:
        raise Conflict(f"the experiment {name!r} was removed while it was made", next_step="try again")
    return made


def check_run_words(name: str, kind: str) -> None:
    """Refuse a run name or kind that cannot be stored.

    Raises:
        Invalid: too long, empty or with control characters.
    """
    if name:
        _check_title("run", name)
    check_name("kind of run", kind)


def insert_run(tx: Connection, row: Mapping[str, Any]) -> int:
    """Add a run; returns its number."""
    statement = runs.insert().values(deleted_at=None, ended_at=None, error="", **row).returning(runs.c.seq)
    return int(tx.execute(statement).scalar_one())


def reopen_run(tx: Connection, row: Row[Any]) -> None:
    """Set a run that did not finish to running again."""
    values = {"status": RunStatus.RUNNING, "ended_at": None, "error": ""}
    tx.execute(update(runs).where(runs.c.seq == row.seq).values(values))


def end_run(tx: Connection, row: Row[Any], status: RunStatus, error: str, now: datetime) -> bool:
    """Set a running run to its end; False if it has ended so already.

    Raises:
        Conflict: it has ended in another way.
    """
    if row.status == status:
        return False
    values = {"status": status, "ended_at": now, "error": error}
    still_running = (runs.c.seq == row.seq) & (runs.c.status == RunStatus.RUNNING)
    if tx.execute(update(runs).where(still_running).values(values)).rowcount != 1:
        raise Conflict(f"run {row.id} has ended as {row.status!r} and cannot become {status.value!r}")
    return True


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
        rows = [{"run_seq": seq, "ref": item.ref, "name": item.name, "digest": item.digest} for item in inputs]
        tx.execute(database.upsert(run_inputs, {}, ["run_seq", "ref"], ["name", "digest"]), rows)


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


def _check_title(noun: str, name: str) -> None:
    if not name.isprintable() or not 0 < len(name) <= _MAX_NAME:
        raise Invalid(
            f"{name[:60]!r} cannot name a {noun}",
            next_step=f"use 1 to {_MAX_NAME} characters without control characters",
        )
