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
from loopwright.serve.ids import Ids
from loopwright.serve.intake import Rows
from loopwright.serve.loaded import LoadedEndpoint, LoadedVariant
from loopwright.serve.metrics import Metrics
from loopwright.serve.model import PredictionStatus
from loopwright.serve.query import Batch, Part, Query
from loopwright.serve.shaped import digested

Chosen = tuple[Part, list[str]]
"""A part to log, and the ids of its rows."""


def record_queries(queries: Sequence[Query], metrics: Metrics, secret: Callable[[], bytes]) -> list[BatchRecord]:
    """Count settled queries, give ids to those of their rows that are to be logged, and make the records of these.

    A row that a model failed on is logged, as an error; one that was refused, for a number out of range, is not.

    Args:
        secret: gives the key of hashes.
    """
    now_ns = time.monotonic_ns()
    whole, others = _whole_runs(queries)
    records = []
    for batch, parts in whole.items():
        _count_good(parts, metrics)
        records.append(_whole_record(batch, parts, now_ns, secret))
    if others:
        chosen = _chosen_rows(others, metrics)
        for some in chosen.values():
            _count_good([part for part, _ in some], metrics)
        made = [make_record(batch, some, now_ns, secret) for batch, some in chosen.items()]
        records += [record for record in made if record is not None]
    return records


def _whole_runs(queries: Sequence[Query]) -> tuple[dict[Batch, list[Part]], list[Query]]:
    """The runs of which all rows are logged, as nearly all are, with their parts in order; and the other queries."""
    runs: dict[Batch, list[Part]] = {}
    others: list[Query] = []
    for query in queries:
        part = query.parts[0]
        batch = part.batch
        if batch is None or query.failure is not None or len(query.parts) > 1 or part.endpoint.spec.log.sample < 1.0:
            others.append(query)
        elif batch in runs:
            runs[batch].append(part)
        else:
            runs[batch] = [part]
    for batch in [batch for batch, parts in runs.items() if len(parts) != batch.parts]:
        others += [part.query for part in runs.pop(batch)]
    return runs, others


def _chosen_rows(queries: Sequence[Query], metrics: Metrics) -> dict[Batch, list[Chosen]]:
    """What is to be logged of queries, by the run that answered it; ids are given, failures counted."""
    chosen: dict[Batch, list[Chosen]] = {}
    ids = new_ids(sum([query.count for query in queries]))
    start = 0
    for query in queries:
        end = start + query.count
        mine = ids[start:end]
        start = end
        parts = query.parts
        if parts[0].endpoint.spec.log.sample < 1.0:
            mine = _sampled(mine, parts[0].endpoint.spec.log.sample)
        query.given_ids = mine
        for part in parts:
            if part.failure is not None or query.failure is not None:
                _count_failure(part, metrics)
                if not isinstance(part.failure, ModelFailed):
                    continue
            if part.batch is not None:
                logged = (part, mine if part.places is None else [mine[place] for place in part.places])
                chosen.setdefault(part.batch, []).append(logged)
    return chosen


def make_record(batch: Batch, chosen: Sequence[Chosen], now_ns: int, secret: Callable[[], bytes]) -> BatchRecord | None:
    """The record of the rows of some parts of a batch that have an id; None if none has."""
    chosen = sorted(chosen, key=_start)  # as in the batch: a query of several parts settles later than its neighbours
    parts = [part for part, _ in chosen]
    ids = list(chain.from_iterable([mine for _, mine in chosen]))
    counts = [part.count for part in parts]
    rows, arrays = batch.rows, batch.arrays
    if "" in ids or len(chosen) != batch.parts:
        places = [part.start + number for part, mine in chosen for number, one in enumerate(mine) if one]
        counts = [sum(map(bool, mine)) for _, mine in chosen]
        ids = list(filter(None, ids))
        rows, arrays = _taken(rows, arrays, places)
    if not ids:
        return None
    raw, keys, times = bytes.fromhex("".join(ids)), _keys(chosen), _event_times(chosen)
    return _record(parts, raw, rows, arrays, keys, times, now_ns, secret, counts)


def _whole_record(batch: Batch, parts: Sequence[Part], now_ns: int, secret: Callable[[], bytes]) -> BatchRecord:
    """The record of a run of which all rows are logged; they get their ids."""
    ids = Ids.new(len(batch.rows))
    keyed = timed = False
    for part in parts:
        query = part.query
        query.given_ids = ids
        keyed = keyed or query.keys is not None
        timed = timed or query.event_times is not None
    keys, times = _all_keys(parts) if keyed else [], _all_times(parts) if timed else []
    return _record(parts, ids.raw, batch.rows, batch.arrays, keys, times, now_ns, secret)


def _record(
    parts: Sequence[Part],
    ids: bytes,
    rows: Rows,
    arrays: dict[str, Array],
    keys: list[str],
    event_times: list[int],
    now_ns: int,
    secret: Callable[[], bytes],
    counts: list[int] | None = None,
) -> BatchRecord:
    """The record of rows, which have all ids, of parts, which have all one variant and outcome."""
    first = parts[0]
    failure, redaction = first.failure, first.loaded.redaction
    if first.endpoint.intake.shaped and isinstance(rows, Block):
        rows = digested(rows)
    if redaction is not None:
        rows = redaction.inputs(rows, secret()) if redaction.touches_inputs else rows
        keys = redaction.keys(keys, secret())
    counts, received, started = _requests(parts, counts)
    return BatchRecord(
        by_of(first.endpoint, first.loaded),
        ids,
        *pack_features(rows),
        pack_outputs(arrays),
        counts,
        received,
        [(now_ns - one) // 1000 for one in started],
        event_times,
        keys,
        PredictionStatus.OK if failure is None else PredictionStatus.ERROR,
        "" if failure is None else failure.message,
    )


def _requests(parts: Sequence[Part], counts: list[int] | None) -> tuple[list[int], list[int], list[int]]:
    """How many logged rows each request has; when it came, in microseconds since 1970 and on the monotonic clock."""
    queries = [part.query for part in parts]
    if counts is None and any(query.gathered is not None for query in queries):
        counts, received = [], list[int]()
        started: list[int] = []
        for query in queries:
            times = (query.started_ns,) if query.gathered is None else query.gathered.started_ns
            counts += (query.count,) if query.gathered is None else query.gathered.counts
            started += times
            received += [query.received_at_us - (query.started_ns - one) // 1000 for one in times]
        return counts, received, started
    if counts is None:
        counts = [part.count for part in parts]
    return counts, [query.received_at_us for query in queries], [query.started_ns for query in queries]


def by_of(endpoint: LoadedEndpoint, loaded: LoadedVariant) -> By:
    """Who answers; the same for all answers of a variant."""
    notes = endpoint.notes
    known: By | None = notes.get((By, loaded))
    if known is None:
        spec, variant, redaction = endpoint.spec, loaded.variant, loaded.redaction
        dropped = [] if redaction is None else redaction.dropped
        key = loaded.columns_key
        known = notes[By, loaded] = By(spec.name, variant.name, variant.model, spec.rollout, key, dropped)
    return known


def _start(one: Chosen) -> int:
    return one[0].start


def _count_good(parts: Sequence[Part], metrics: Metrics) -> None:
    """Count the answers of one batch, all of which one variant gave."""
    part = parts[0]
    if part.failure is None:
        key = part.endpoint.spec.name, part.loaded.variant.name, part.loaded.version, "ok"
        metrics.predictions[key] += sum([one.count for one in parts])


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


def _all_times(parts: Sequence[Part]) -> list[int]:
    queries = [part.query for part in parts]
    return list(chain.from_iterable([q.event_times or [q.received_at_us] * q.count for q in queries]))


def _all_keys(parts: Sequence[Part]) -> list[str]:
    return list(chain.from_iterable([part.query.keys or [""] * part.count for part in parts]))


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
