"""Batches: points, params and tags of one run, or of many runs in one transaction.

Each batch of a transaction is judged by itself: one for a run that is not there, or with a param that has another
value already, is refused and leaves the others alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np
from sqlalchemy import Connection

from loopwright.core import Conflict, LoopwrightError, NotFound
from loopwright.store import Database
from loopwright.track.bulk import Place, lock_runs
from loopwright.track.columns import Columns, Mixed, from_rows, joined
from loopwright.track.keys import intern_keys
from loopwright.track.metrics import Pieces, Points, split, write_points
from loopwright.track.revisions import touch
from loopwright.track.values import check_key, check_text
from loopwright.track.writing import changed_param, put_texts, stored_params


class Batch(msgspec.Struct, frozen=True, eq=False):
    """What is to be stored with one run of a project: prepared points by key, params and tags; how much it is."""

    project: str
    run: str
    points: Mapping[str, Points] | Mixed = {}
    params: Mapping[str, str] = {}
    tags: Mapping[str, str] = {}
    size: int = 1


def check_texts(params: Mapping[str, str], tags: Mapping[str, str]) -> None:
    """Refuse params and tags that cannot be stored.

    Raises:
        Invalid: a key or a value is malformed or too long.
    """
    for noun, texts in (("param", params), ("tag", tags)):
        for key, text in texts.items():
            check_text(noun, check_key(noun, key), text)


def write_batches(database: Database, tx: Connection, batches: Sequence[Batch]) -> list[LoopwrightError | None]:
    """Store batches whose points and texts have been checked, in their order; what each that was refused lacks.

    Nothing of a refused batch is stored. Call it once in a transaction.

    Raises:
        Conflict: another writer set a param to another value at this moment; nothing may be committed.
    """
    found = _lock_runs(database, tx, batches)
    key_ids = intern_keys(
        database, tx, {key for item in batches for key in (*_metrics(item), *item.params, *item.tags)}
    )
    outcome: list[LoopwrightError | None] = []
    params = stored_params(tx, key_ids, _seqs(batches, found)) if any(item.params for item in batches) else {}
    fresh: dict[int, dict[str, str]] = {}
    tags: dict[int, dict[str, str]] = {}
    points: dict[Place, list[Points]] = {}
    mixed: dict[int, list[Pieces]] = {}
    for item in batches:
        seq = found[item.project, run_id_of(item)]
        refused = seq if isinstance(seq, LoopwrightError) else _refusal(item.params, params.get(seq, {}))
        outcome.append(refused)
        if refused is None and isinstance(seq, int):
            params.setdefault(seq, {}).update(item.params)
            fresh.setdefault(seq, {}).update(item.params)
            tags.setdefault(seq, {}).update(item.tags)
            for key, some in _of_one_key(item.points, key_ids, mixed.setdefault(seq, [])):
                points.setdefault((seq, key), []).append(some)
    touch(tx, mixed)
    put_texts(database, tx, key_ids, fresh, tags)
    write_points(database, tx, {place: _together(parts) for place, parts in points.items()}, mixed)
    return outcome


def _metrics(item: Batch) -> Iterable[str]:
    return item.points.keys if isinstance(item.points, Mixed) else item.points


def _of_one_key(
    given: Mapping[str, Points] | Mixed, key_ids: Mapping[str, int], pieces: list[Pieces]
) -> Iterable[tuple[int, Points]]:
    """The points of each key by its number; what is mixed of keys with few points goes to `pieces`."""
    if not isinstance(given, Mixed):
        return [(key_ids[key], some) for key, some in given.items()]
    numbers = np.fromiter([key_ids[key] for key in given.keys], np.int64, len(given.keys))
    many, rest = split(Pieces(numbers[given.names], given.points))
    if len(rest.points):
        pieces.append(rest)
    return many.items()


def _lock_runs(
    database: Database, tx: Connection, batches: Sequence[Batch]
) -> dict[tuple[str, str], int | LoopwrightError]:
    """The run's number for each batch, or why it has none that may be written."""
    rows = lock_runs(database, tx, sorted({run_id_of(item) for item in batches}))
    found: dict[tuple[str, str], int | LoopwrightError] = {}
    for item in batches:
        row = rows.get(run_id_of(item))
        if row is None or row.project != item.project:
            found[item.project, run_id_of(item)] = _unknown(item)
        elif row.deleted_at is not None:
            step = f"loopwright runs restore {row.id} brings it back"
            found[item.project, row.id] = Conflict(f"run {row.id} is deleted", next_step=step)
        else:
            found[item.project, row.id] = row.seq
    return found


def _unknown(item: Batch) -> NotFound:
    shown = item.run if len(item.run) <= 60 else f"{item.run[:60]}…"
    return NotFound(f"there is no run {shown!r} in project {item.project!r}", next_step="loopwright runs search")


def run_id_of(item: Batch) -> str:
    """The id of a batch's run, which may be given as a ref."""
    return item.run.removeprefix("run:")


def _seqs(batches: Sequence[Batch], found: Mapping[tuple[str, str], int | LoopwrightError]) -> list[int]:
    seqs = (found[item.project, run_id_of(item)] for item in batches if item.params)
    return sorted({seq for seq in seqs if isinstance(seq, int)})


def _refusal(params: Mapping[str, str], stored: Mapping[str, str]) -> Conflict | None:
    for key, text in params.items():
        if stored.get(key, text) != text:
            return changed_param(key, stored[key], text)
    return None


def _together(parts: list[Points]) -> Points:
    if len(parts) == 1:
        return parts[0]
    rows = [part for part in parts if isinstance(part, list)]
    if len(rows) == len(parts):
        return [point for part in rows for point in part]
    return joined(part if isinstance(part, Columns) else from_rows(part) for part in parts)
