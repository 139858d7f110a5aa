"""The row of histories: a metric of 1,000,000 points read whole, and thinned out to 1,000."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from urllib.parse import urlencode

import msgspec
import numpy as np
from figures import OURS, Line, check
from filling import our_stores, put_points
from http_load import raw_answers, request
from peers import Server, environment
from rest import API, PAGE, new_run
from rows import servers_of
from running import Bench, program, repeated, sized

from loopwright.core import new_id
from loopwright.track import Delivery, columns_of, deliver

KEY = "loss"
BUCKETS = 1_000
FIRST_MS = 1_700_000_000_000
READERS = ("aim", "trackio")
WHOLE = "history, whole, in one answer of MLflow's REST"
PAGED = f"history, whole, in MLflow's pages of {PAGE:,}"
NATIVE = "history, whole, by each tracker's own reader"
CURVE = f"history, drawn with {BUCKETS:,} buckets"
SAMPLED = f"history, {BUCKETS:,} points by MLflow's REST"


class Points(msgspec.Struct):
    """A page of points as MLflow's REST gives it."""

    class Point(msgspec.Struct):
        value: float | str
        step: int = 0

    metrics: list[Point] = []
    next_page_token: str = ""


class Token(msgspec.Struct):
    """What is needed of a page before the next can be asked for."""

    next_page_token: str = ""


class Whole(msgspec.Struct):
    """A history by our own API."""

    steps: list[int]
    values: list[float | str]


class Curve(msgspec.Struct):
    """A curve by our own API."""

    lows: list[float]
    highs: list[float]
    counts: list[int]


class Reader:
    """One server's metric, and every way in which it is read."""

    def __init__(self, bench: Bench, server: Server) -> None:
        """Store the points."""
        self.bench, self.server = bench, server
        self.count = sized(server.name, bench.sizes.points, bench.sizes.slow_points)
        self.values = np.random.default_rng(0).normal(size=self.count).tolist()
        self.run = new_run(server)
        if server.name == OURS:
            self._deliver()
        else:
            put_points(server, self.run, KEY, self.values, list(range(FIRST_MS, FIRST_MS + self.count)))

    def _deliver(self) -> None:
        """As a spool does: a hundred thousand points at a time."""
        spool, values = new_id(), np.array(self.values)
        with our_stores(self.server) as stores:
            for start in range(0, self.count, 100_000):
                part = np.arange(start, min(start + 100_000, self.count))
                columns = columns_of(part, (FIRST_MS + part) * 1000, values[part])
                done = Delivery(spool, 0, start, start + len(part), {self.run: {KEY: columns}})
                with stores.db.begin() as tx:
                    deliver(stores.db, tx, "default", done)

    def read(self) -> list[Line]:
        """One round of every work that this server can do."""
        works: dict[str, Callable[[], Line]] = {WHOLE: self._in_one}
        if self.server.name != "fasttrackml":
            works |= {PAGED: self._in_pages, SAMPLED: self._sampled, CURVE: self._sampled}
        if self.server.name == OURS:
            works |= {NATIVE: self._natively, CURVE: self._curve}
        return [msgspec.structs.replace(work(), work=name) for name, work in works.items()]

    def _in_one(self) -> Line:
        [body], line = self._timed(iter([self._get("get-history", run_id=self.run, metric_key=KEY)]))
        self._same(msgspec.json.decode(body, type=Points, strict=False).metrics)
        return line

    def _in_pages(self) -> Line:
        token = ""
        bodies: list[bytes] = []

        def requests() -> Iterator[bytes]:
            nonlocal token
            while not bodies or token:  # the answer to a request is in `bodies` when the next is asked for
                more = {"page_token": token} if token else {}
                yield self._get("get-history", run_id=self.run, metric_key=KEY, max_results=str(PAGE), **more)
                token = msgspec.json.decode(bodies[-1], type=Token).next_page_token

        _, line = self._timed(requests(), bodies)
        pages = (msgspec.json.decode(body, type=Points, strict=False).metrics for body in bodies)
        self._same([item for page in pages for item in page])
        return line

    def _natively(self) -> Line:
        [body], line = self._timed(iter([self._own("history", run=self.run, key=KEY)]))
        found = msgspec.json.decode(body, type=Whole)
        check((found.steps == list(range(self.count)), list(map(float, found.values)) == self.values), (True, True))
        return line

    def _curve(self) -> Line:
        data = self._own("curve", run=self.run, keys=KEY, buckets=str(BUCKETS))
        bodies, line = self._repeated(data)
        for body in bodies:
            [curve] = msgspec.json.decode(body, type=list[Curve])
            check((min(curve.lows), max(curve.highs)), (min(self.values), max(self.values)))
            check((sum(curve.counts), len(curve.counts) <= BUCKETS), (self.count, True))
        return line

    def _sampled(self) -> Line:
        data = self._get("get-history-bulk-interval", run_ids=self.run, metric_key=KEY, max_results=str(BUCKETS))
        bodies, line = self._repeated(data)
        for body in bodies:
            found = msgspec.json.decode(body, type=Points, strict=False).metrics
            check([float(item.value) for item in found], [self.values[item.step] for item in found])
            check((0 < len(found) <= BUCKETS + 2, max(item.step for item in found)), (True, self.count - 1))
        return line

    def _same(self, found: list[Points.Point]) -> None:
        found.sort(key=lambda item: item.step)
        check([item.step for item in found] == list(range(self.count)), True)
        check([float(item.value) for item in found] == self.values, True)

    def _timed(self, requests: Iterator[bytes], bodies: list[bytes] | None = None) -> tuple[list[bytes], Line]:
        """Ask one after the other; the answers, and the seconds of all."""
        bodies = [] if bodies is None else bodies
        with raw_answers(self.server.url) as answer, self.bench.meter(self.server) as meter:
            started = time.perf_counter()
            for data in requests:
                bodies.append(answer(data))
            took = time.perf_counter() - started
        cost, why = meter.cost, meter.cost.bound_by()
        line = Line("", self.server.name, took, "s", 2, False, 0, why, self.count, "points", True, cost=cost)
        return bodies, line

    def _repeated(self, data: bytes) -> tuple[list[bytes], Line]:
        """Ask several times; the answers, and the median."""
        repeats = sized(self.server.name, self.bench.sizes.searches, self.bench.sizes.slow_searches)
        with raw_answers(self.server.url) as answer, self.bench.meter(self.server) as meter:
            bodies, median = repeated(lambda: answer(data), repeats)
        why = meter.cost.bound_by()
        line = Line("", self.server.name, median, "ms", 30, False, 0, why, self.count, "points", cost=meter.cost)
        return bodies, line

    def _get(self, what: str, **asked: str) -> bytes:
        return request(self.server.url, "GET", f"{API}/metrics/{what}?{urlencode(asked)}")

    def _own(self, verb: str, **asked: str) -> bytes:
        return request(self.server.url, "GET", f"/api/v1/runs/{verb}?{urlencode(asked)}")


def history(bench: Bench) -> list[Line]:
    """Whole, and thinned out; FastTrackML makes no pages and thins nothing out in MLflow's protocol."""
    with servers_of(bench) as servers:
        tasks: dict[str, Callable[[], list[Line]]] = {}
        for name, server in servers.items():
            try:
                tasks[name] = Reader(bench, server).read
            except Exception as error:  # noqa: BLE001 - whatever a peer does wrong, the other sides have figures
                bench.report(f"{name} could not be filled: {error}")
        return bench.rounds(tasks | {name: partial(_local, bench, name) for name in READERS})


def _local(bench: Bench, name: str) -> list[Line]:
    """A local tracker's own reader, in a process of its own."""
    count = bench.sizes.local_points
    with tempfile.TemporaryDirectory(prefix="bench-tracking-") as folder:
        found = program(environment(name), "native_peer.py", "read", name, f"{folder}/peer", count)
    whole, some = (f"{found[f'{part}_cores']:.2f} cores used by the reader" for part in ("whole", "some"))
    return [
        Line(NATIVE, name, found["whole_s"], "s", 0, False, 0, whole, count, "points", True),
        Line(CURVE, name, found["some_s"] * 1000, "ms", 0, False, 0, some, count, "points"),
    ]
