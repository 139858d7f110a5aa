"""From answered queries to records of the prediction log."""

from __future__ import annotations

import random
import time

from loopwright.core import new_id
from loopwright.models import ModelFailed
from loopwright.serve.metrics import Metrics
from loopwright.serve.model import PredictionStatus
from loopwright.serve.prediction_log import Record
from loopwright.serve.query import Part, Query


def record_query(query: Query, records: list[Record], metrics: Metrics) -> list[str]:
    """Count a query and add the records of its rows; the prediction ids, by row, "" where a row is not logged.

    A row that a model failed on is logged, as an error; one that was refused, for a number out of range, is not.
    """
    latency_us = (time.monotonic_ns() - query.started_ns) // 1000
    ids = [""] * len(query.rows)
    for part in query.parts:
        failed = isinstance(part.failure, ModelFailed)
        outcome = "error" if failed else "ok" if part.failure is None else "refused"
        spec = part.endpoint.spec
        metrics.predictions[spec.name, part.loaded.variant.name, part.loaded.version, outcome] += len(part.rows)
        if failed or query.failure is None:
            _record_part(part, latency_us, ids, records)
    return ids


def _record_part(part: Part, latency_us: int, ids: list[str], records: list[Record]) -> None:
    query, spec, variant = part.query, part.endpoint.spec, part.loaded.variant
    status = PredictionStatus.OK if part.failure is None else PredictionStatus.ERROR
    error = "" if part.failure is None else part.failure.message
    sample = spec.log.sample
    outputs = list(part.outputs.items())
    places = range(len(part.rows)) if part.places is None else part.places
    for number, place in enumerate(places):
        if sample < 1.0 and random.random() >= sample:
            continue
        ids[place] = new_id()
        records.append(
            Record(
                ids[place],
                spec.name,
                variant.name,
                variant.model,
                query.received_at_us if query.event_times is None else query.event_times[place],
                query.received_at_us,
                "" if query.keys is None else query.keys[place],
                part.loaded.columns_key,
                part.rows[number],
                {name: values[number] for name, values in outputs},
                latency_us,
                status,
                "",
                spec.rollout,
                error,
            )
        )
