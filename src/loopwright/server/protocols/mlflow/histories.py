"""Histories of metrics over MLflow's protocol."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING

from loopwright.core import Invalid
from loopwright.server.protocols.mlflow import wire
from loopwright.server.protocols.mlflow.endpoint import Endpoint, Rooms, ask
from loopwright.server.protocols.mlflow.records import Item, MetricItem
from loopwright.server.route import Call

if TYPE_CHECKING:
    from loopwright.track import MetricHistory

BASE = "/api/2.0/mlflow/metrics"
MAX_PAGE = 25_000
MAX_RUNS = 100
MAX_SAMPLED = 2500


class History(wire.Request, frozen=True):
    run_id: str
    metric_key: str
    max_results: int | None = None
    page_token: str = ""


class Bulk(wire.Request, frozen=True):
    run_id: list[str] = []
    metric_key: str = ""
    max_results: int = MAX_PAGE


class Interval(wire.Request, frozen=True):
    run_ids: list[str]
    metric_key: str
    start_step: int | None = None
    end_step: int | None = None
    max_results: int = MAX_SAMPLED


class Page(Item, frozen=True):
    metrics: list[MetricItem]
    next_page_token: str = ""


async def get_history(call: Call, asked: History) -> Page:
    """All points of a metric, or a page of them, by step."""
    if asked.max_results is not None and asked.max_results <= 0:
        raise wire.invalid("max_results", asked.max_results, "It must be a positive integer.")

    def work(rooms: Rooms) -> Page:
        found = rooms.runs.history(asked.run_id, asked.metric_key, limit=asked.max_results, after=asked.page_token)
        return Page(_items(found), found.next)

    return await ask(call, work)


async def get_history_bulk(call: Call, asked: Bulk) -> Page:
    """The points of a metric in several runs, by run, cut after `max_results`."""
    if not asked.run_id:
        raise Invalid("GetMetricHistoryBulk request must specify at least one run_id.")
    if len(asked.run_id) > MAX_RUNS:
        raise Invalid(
            f"GetMetricHistoryBulk request cannot specify more than {MAX_RUNS} run_ids. "
            f"Received {len(asked.run_id)} run_ids."
        )
    if not asked.metric_key:
        raise Invalid("GetMetricHistoryBulk request must specify a metric_key.")
    limit = min(asked.max_results, MAX_PAGE)

    def work(rooms: Rooms) -> Page:
        found: list[MetricItem] = []
        for run in sorted(asked.run_id):
            if len(found) < limit:
                page = rooms.runs.history(run, asked.metric_key, limit=limit - len(found))
                found += _items(page, page.run)
        return Page(found)

    return await ask(call, work)


async def get_history_bulk_interval(call: Call, asked: Interval) -> Page:
    """The points of a metric in several runs, each thinned out evenly by itself: its first and last point stay."""
    if len(asked.run_ids) > MAX_RUNS:
        raise Invalid(
            f"GetMetricHistoryBulkInterval request must specify at most {MAX_RUNS} run_ids. "
            f"Received {len(asked.run_ids)} run_ids."
        )
    if not 0 < asked.max_results <= MAX_SAMPLED:
        raise wire.invalid("max_results", asked.max_results, f"max_results must be between 1 and {MAX_SAMPLED}.")
    if (asked.start_step is None) != (asked.end_step is None):
        raise Invalid("If either start step or end step are specified, both must be specified.")
    if asked.start_step is not None and asked.end_step is not None and asked.start_step > asked.end_step:
        raise Invalid(
            "end_step must be greater than start_step. "
            f"Found start_step={asked.start_step} and end_step={asked.end_step}."
        )

    def work(rooms: Rooms) -> Page:
        found = rooms.runs.samples(asked.run_ids, asked.metric_key, asked.max_results, asked.start_step, asked.end_step)
        return Page([item for history in found for item in _items(history, history.run)])

    return await ask(call, work)


def _items(history: MetricHistory, run_id: str = "") -> list[MetricItem]:
    """The points of a history."""
    millis = [at // 1000 for at in history.times_us]
    return list(map(MetricItem, repeat(history.key), history.values, millis, history.steps, repeat(run_id)))


ENDPOINTS = (
    Endpoint("GET", f"{BASE}/get-history", "runs:read", History, get_history),
    Endpoint("GET", f"{BASE}/get-history-bulk", "runs:read", Bulk, get_history_bulk),
    Endpoint("GET", f"{BASE}/get-history-bulk-interval", "runs:read", Interval, get_history_bulk_interval),
)
