"""The row of searches: a page of 100 runs over MLflow's REST, among 100,000 of ours and 5,000 of a peer's, or as many
as `--peer-runs` says."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import msgspec
from figures import OURS, Line, check
from filling import our_stores, put_runs
from http_load import call, raw_answers, request
from peers import Server
from rest import API
from rows import servers_of
from running import Bench, repeated, sized
from search import FILTER, Drawn, draw, fill

PAGE = 100
WARM_S = 3.0
CASES: dict[str, tuple[list[str], Callable[[Drawn], Any]]] = {
    "search, page of 100, best metric first": (["metrics.acc DESC"], lambda run: -run.metrics["acc"]),
    "search, page of 100, newest first": (["attributes.start_time DESC"], lambda run: -run.started_us),
}


def search(bench: Bench) -> list[Line]:
    """Each side's runs are drawn from the same numbers; the page must be what a plain scan of them finds."""
    with servers_of(bench) as servers:
        tasks = {}
        for name, server in servers.items():
            count = sized(name, bench.sizes.found_among, bench.sizes.slow_found_among)
            try:
                tasks[name] = partial(_searches, bench, server, _fill(server, count), expected(count), count)
            except Exception as error:  # noqa: BLE001 - whatever a peer does wrong, the other sides have figures
                bench.report(f"{name} could not be filled: {error}")
        return bench.rounds(tasks)


@cache
def expected(count: int) -> dict[str, list[Drawn]]:
    """The page of each case, by a plain scan."""
    matching = [run for run in map(draw, range(1, count + 1)) if run.metrics["acc"] > 0.9 and run.params["lr"] == "0.1"]
    return {work: sorted(matching, key=key)[:PAGE] for work, (_, key) in CASES.items()}


def _fill(server: Server, count: int) -> str:
    """Store the runs; the id of their experiment."""
    if server.name == OURS:
        with our_stores(server) as stores:
            fill(stores, count)
        found = call(server.url, "GET", f"{API}/experiments/get-by-name?experiment_name=bench")
        return str(found["experiment"]["experiment_id"])
    experiment = str(call(server.url, "POST", f"{API}/experiments/create", {"name": "bench"})["experiment_id"])
    put_runs(server, map(draw, range(1, count + 1)), experiment)
    return experiment


def _searches(bench: Bench, server: Server, experiment: str, pages: dict[str, list[Drawn]], count: int) -> list[Line]:
    lines = []
    repeats = sized(server.name, bench.sizes.searches, bench.sizes.slow_searches)
    for work, (order, _) in CASES.items():
        body = {"experiment_ids": [experiment], "filter": FILTER, "max_results": PAGE, "order_by": order}
        data = request(server.url, "POST", f"{API}/runs/search", body)
        with raw_answers(server.url) as answer:
            compare(msgspec.json.decode(answer(data)), pages[work])
            warm(partial(answer, data))
            compare(msgspec.json.decode(answer(data)), pages[work])
            with (meter := bench.meter(server)):
                _, median = repeated(partial(answer, data), repeats)
        least, why = 30.0 if server.name.startswith("mlflow") else 0.0, meter.cost.bound_by()
        lines.append(Line(work, server.name, median, "ms", 50, False, least, why, count, "runs", cost=meter.cost))
    return lines


def warm(ask: Callable[[], bytes]) -> None:
    """Ask until a side has had the time to do what it does for a search that comes again."""
    started = time.perf_counter()
    while time.perf_counter() - started < WARM_S:
        ask()


def compare(answer: dict[str, Any], page: list[Drawn]) -> None:
    """Refuse a page with other runs, another order, or other params, metrics or tags."""
    found = answer.get("runs", [])
    check([item["info"]["run_id"] for item in found], [run.id for run in page])
    for item, run in zip(found, page, strict=True):
        params, metrics, tags = ({one["key"]: one["value"] for one in item["data"].get(kind, [])} for kind in KINDS)
        check(params, run.params)
        check(metrics, run.metrics)
        check({key: tags.get(key) for key in run.tags}, run.tags)


KINDS = ("params", "metrics", "tags")
