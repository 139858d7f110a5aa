"""From answered queries to records of the prediction log: one for each run of a model."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

from loopwright.core import new_ids
from loopwright.models import ModelFailed
from loopwright.serve.batch_record import BatchRecord, By, pack_features, pack_outputs
from loopwright.serve.block import Array, Block
from loopwright.serve.intake import Rows
from loopwright.serve.metrics import Metrics
from loopwright.serve.model import PredictionStatus
from loopwright.serve.query import Batch, Part, Query

Chosen = tuple[Part, list[str]]
"""A part to log, and the ids of its rows."""


def record_queries(queries: Sequence[Query], metrics: Metrics) -> tuple[list[list[str]], list[BatchRecord]]:
    """Count settled queries and make the records of their rows.

    A row that a model failed on is logged, as an error; one that was refused, for a number out of range, is not.

    Returns:
        the prediction ids of each query by row, "" where a row is not logged; and the records.
    """
    minted = new_ids(sum(len(query.rows) for query in queries))
    ids: list[list[str]] = []
    start = 0
    chosen: dict[Batch, list[Chosen]] = {}
    for query in queries:
        end = start + len(query.rows)
        mine = minted[start:end]
        start = end
        ids.append(_sampled(mine, query.parts[0].endpoint.spec.log.sample))
        for part in query.parts:
            _count(part, metrics)
            if part.batch is not None and (query.failure is None or isinstance(part.failure, ModelFailed)):
                places = part.places
                chosen.setdefault(part.batch, []).append(
                    (part, ids[-1] if places is None else [ids[-1][place] for place in places])
                )
    now_ns = time.monotonic_ns()
    records = [make_record(batch, parts, now_ns) for batch, parts in chosen.items()]
    return ids, [record for record in records if record is not None]


def make_record(batch: Batch, chosen: Sequence[Chosen], now_ns: int) -> BatchRecord | None:
    """The record of the rows of some parts of a batch that have an id; None if none has."""
    ids = [identifier for _, mine in chosen for identifier in mine]
    counts = [len(mine) for _, mine in chosen]
    rows, arrays, places = batch.rows, batch.arrays, None
    if "" in ids or len(chosen) != len(batch.parts):
        places = [part.start + number for part, mine in chosen for number, one in enumerate(mine) if one]
        counts = [sum(map(bool, mine)) for _, mine in chosen]
        ids = list(filter(None, ids))
        rows, arrays = _taken(rows, arrays, places)
    if not ids:
        return None
    first = chosen[0][0]
    spec, variant, failure = first.endpoint.spec, first.loaded.variant, first.failure
    return BatchRecord(
        By(spec.name, variant.name, variant.model, spec.rollout, first.loaded.columns_key),
        bytes.fromhex("".join(ids)),
        *pack_features(rows),
        pack_outputs(arrays),
        counts,
        [part.query.received_at_us for part, _ in chosen],
        [(now_ns - part.query.started_ns) // 1000 for part, _ in chosen],
        _event_times(chosen),
        _keys(chosen),
        PredictionStatus.OK if failure is None else PredictionStatus.ERROR,
        "" if failure is None else failure.message,
    )


def _count(part: Part, metrics: Metrics) -> None:
    outcome = "ok"
    if part.failure is not None:
        outcome = "error" if isinstance(part.failure, ModelFailed) else "refused"
    key = part.endpoint.spec.name, part.loaded.variant.name, part.loaded.version, outcome
    metrics.predictions[key] += len(part.rows)


def _sampled(ids: list[str], share: float) -> list[str]:
    if share >= 1.0:
        return ids
    return [identifier if random.random() < share else "" for identifier in ids]


def _taken(rows: Rows, arrays: dict[str, Array], places: list[int]) -> tuple[Rows, dict[str, Array]]:
    kept = rows.take(places) if isinstance(rows, Block) else [rows[place] for place in places]
    return kept, {name: values[places] for name, values in arrays.items()}


def _event_times(chosen: Sequence[Chosen]) -> list[int]:
    if all(part.query.event_times is None for part, _ in chosen):
        return []
    found = []
    for part, mine in chosen:
        times, received = part.query.event_times, part.query.received_at_us
        found += [received if times is None else times[place] for place in _logged_places(part, mine)]
    return found


def _keys(chosen: Sequence[Chosen]) -> list[str]:
    if all(part.query.keys is None for part, _ in chosen):
        return []
    found = []
    for part, mine in chosen:
        keys = part.query.keys
        found += ["" if keys is None else keys[place] for place in _logged_places(part, mine)]
    return found


def _logged_places(part: Part, ids: Sequence[str]) -> list[int]:
    """Where the rows that have an id stand in their query."""
    places = range(len(ids)) if part.places is None else part.places
    return [place for place, identifier in zip(places, ids, strict=True) if identifier]
