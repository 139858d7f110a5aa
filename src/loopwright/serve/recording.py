"""From answered queries to records of the prediction log: one for each run of a model."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from itertools import chain

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


def record_queries(queries: Sequence[Query], metrics: Metrics, secret: Callable[[], bytes]) -> list[BatchRecord]:
    """Count settled queries, give ids to those of their rows that are to be logged, and make the records of these.

    A row that a model failed on is logged, as an error; one that was refused, for a number out of range, is not.

    Args:
        secret: gives the key of hashes.
    """
    chosen: dict[Batch, list[Chosen]] = {}
    ids = new_ids(sum([query.count for query in queries]))
    start = 0
    for query in queries:
        end = start + query.count
        query.ids = mine = ids[start:end]
        start = end
        parts = query.parts
        if parts[0].endpoint.spec.log.sample < 1.0:
            query.ids = mine = _sampled(mine, parts[0].endpoint.spec.log.sample)
        for part in parts:
            if part.failure is not None or query.failure is not None:
                _count_failure(part, metrics)
                if not isinstance(part.failure, ModelFailed):
                    continue
            if part.batch is None:
                continue
            logged = (part, mine if part.places is None else [mine[place] for place in part.places])
            known = chosen.get(part.batch)
            if known is None:
                chosen[part.batch] = [logged]
            else:
                known.append(logged)
    now_ns = time.monotonic_ns()
    for parts_of_batch in chosen.values():
        _count_good(parts_of_batch, metrics)
    records = [make_record(batch, parts, now_ns, secret) for batch, parts in chosen.items()]
    return [record for record in records if record is not None]


def make_record(batch: Batch, chosen: Sequence[Chosen], now_ns: int, secret: Callable[[], bytes]) -> BatchRecord | None:
    """The record of the rows of some parts of a batch that have an id; None if none has."""
    chosen = sorted(chosen, key=_start)  # as in the batch: a query of several parts settles later than its neighbours
    ids = list(chain.from_iterable([mine for _, mine in chosen]))
    counts = [part.count for part, _ in chosen]
    rows, arrays, places = batch.rows, batch.arrays, None
    if "" in ids or len(chosen) != batch.parts:
        places = [part.start + number for part, mine in chosen for number, one in enumerate(mine) if one]
        counts = [sum(map(bool, mine)) for _, mine in chosen]
        ids = list(filter(None, ids))
        rows, arrays = _taken(rows, arrays, places)
    if not ids:
        return None
    first = chosen[0][0]
    spec, variant, failure = first.endpoint.spec, first.loaded.variant, first.failure
    keys, redaction = _keys(chosen), first.loaded.redaction
    dropped: list[int] = []
    if redaction is not None:
        dropped = redaction.dropped
        rows = redaction.inputs(rows, secret()) if redaction.touches_inputs else rows
        keys = redaction.keys(keys, secret())
    return BatchRecord(
        By(spec.name, variant.name, variant.model, spec.rollout, first.loaded.columns_key, dropped),
        bytes.fromhex("".join(ids)),
        *pack_features(rows),
        pack_outputs(arrays),
        counts,
        [part.query.received_at_us for part, _ in chosen],
        [(now_ns - part.query.started_ns) // 1000 for part, _ in chosen],
        _event_times(chosen),
        keys,
        PredictionStatus.OK if failure is None else PredictionStatus.ERROR,
        "" if failure is None else failure.message,
    )


def _start(one: Chosen) -> int:
    return one[0].start


def _count_good(chosen: Sequence[Chosen], metrics: Metrics) -> None:
    """Count the answers of one batch, all of which one variant gave."""
    part = chosen[0][0]
    if part.failure is None:
        key = part.endpoint.spec.name, part.loaded.variant.name, part.loaded.version, "ok"
        metrics.predictions[key] += sum([one.count for one, _ in chosen])


def _count_failure(part: Part, metrics: Metrics) -> None:
    """Count a part that failed, or whose answer nobody gets as another part of its query failed."""
    outcome = "ok" if part.failure is None and part.batch is not None else "refused"
    if isinstance(part.failure, ModelFailed):
        outcome = "error"
    metrics.predictions[part.endpoint.spec.name, part.loaded.variant.name, part.loaded.version, outcome] += part.count


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
