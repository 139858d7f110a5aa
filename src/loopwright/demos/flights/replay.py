"""The year goes by: each day's flights are asked one by one at their departure, and their outcome comes later."""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import msgspec

from loopwright.core import Unavailable
from loopwright.demos.flights.source import Sources, days, landed_by, turn_of
from loopwright.monitor import Feedback

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl

    from loopwright.demos.process import UpProcess
    from loopwright.serve import InferenceClient
    from loopwright.server import RemoteWorkspace
    from loopwright.workspace import Workspace

LABEL_DELAY = timedelta(days=1)
_PATIENCE_S = 90.0
_SETTLE_S = 900.0
_FEEDBACK_ROWS = 5_000


class Counts(msgspec.Struct):
    """What went over the wire and was acknowledged."""

    predictions: int = 0
    labels: int = 0
    refused: int = 0


class Replay:
    """Sends the flights of day after day through the real server, and moves the workspace's clock.

    Everything is asked again when the server dies and comes back: an answer that was lost is asked for anew.
    """

    def __init__(self, up: UpProcess, ws: Workspace, sources: Sources, features: Any) -> None:
        """Args:
        up: the server, which is started again when it is gone.
        ws: the same workspace, opened here: new rows are brought to it as a data team would bring them.
        features: the project's module that declares what is known of a flight.
        """
        self.up, self.ws, self.sources, self.features = up, ws, sources, features
        self.counts = Counts()
        self.acknowledged: list[str] = []
        self._waiting: deque[tuple[datetime, list[str], list[int]]] = deque()
        self._online_at: datetime | None = None
        self._beside = ThreadPoolExecutor(1, "loopwright-news")
        self._client: InferenceClient | None = None
        self._remote: RemoteWorkspace | None = None
        self._served = -1

    def run(self, first: date, last: date, each_day: Callable[[date], None]) -> None:
        """Replay from `first`, whose rows of before are in the datasets, to `last`; `each_day` is called when a day is
        over and everything has settled."""
        for day in days(first, last):
            self._day(day)
            each_day(day)

    def ask(self, call: Callable[[RemoteWorkspace], Any]) -> Any:
        """Ask the server, and ask again while it is away.

        Raises:
            Unavailable: it stays away.
        """
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return call(self._server())
            except Unavailable:
                self.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def close(self) -> None:
        """Close the connections; they are opened again when they are needed."""
        for opened in (self._client, self._remote):
            if opened is not None:
                opened.close()
        self._client = self._remote = None
        self._served = -1

    def _server(self) -> RemoteWorkspace:
        from loopwright.server import RemoteWorkspace

        url = self.up.ensure()
        if self._remote is None:
            self._remote = RemoteWorkspace(url)
        return self._remote

    def _day(self, day: date) -> None:
        """One operational day: its requests, the labels that are due, the news that it made, and then the clock.

        The day's news comes in while its requests are answered, by features that were read before; tomorrow's features
        go online while the controller does what the new time asks for.
        """
        begin, end = turn_of(day), turn_of(day + timedelta(days=1))
        if self._online_at != begin:
            self._bring_online(begin)
        flights = self.sources.flights.filter(self._between("scheduled_at", begin, end))
        inputs = self.inputs_at(flights, begin)
        brought = self._beside.submit(self._bring_rows, end)
        self._predict(flights, inputs, begin)
        self._send_labels(end)
        brought.result()
        self.ask(lambda remote: remote.loops.advance_clock(to=end))
        online = self._beside.submit(self._bring_online, end)
        self._settle()
        online.result()

    def _bring_rows(self, now: datetime) -> None:
        """The flights and the weather of the day before go into the datasets."""
        flown = landed_by(self.sources.flights, now, now - timedelta(days=1))
        if flown.height:
            self.ws.datasets.ingest("flights", flown, mode="append", message=f"flown by {now:%Y-%m-%d %H:%M}")
        observed = self.sources.weather.filter(self._between("observed_at", now - timedelta(days=1), now))
        if observed.height:
            self.ws.datasets.ingest("weather", observed, mode="append", message=f"observed by {now:%Y-%m-%d %H:%M}")

    def _bring_online(self, now: datetime) -> None:
        """What yesterday's flights show goes online."""
        self.ws.features.materialise_all([view.name for view in self.features.VIEWS], until=now)
        self._online_at = now

    def _predict(self, flights: pl.DataFrame, inputs: pl.DataFrame, now: datetime) -> None:
        """One request per flight, in the order of their scheduled departures."""
        columns = {name: inputs[name].to_list() for name in inputs.columns}
        keys = flights["flight_id"].to_list()
        answered = self._infer(columns, keys, flights["scheduled_at"].to_list())
        self.counts.predictions += sum(1 for identifier in answered.prediction_ids if identifier)
        self.counts.refused += len(answered.errors)
        self.acknowledged.extend(identifier for identifier in answered.prediction_ids if identifier)
        late = (flights["arr_delay"] > self.features.LATE_MINUTES).cast(int).to_list()
        known = [
            (identifier, truth)
            for identifier, truth in zip(answered.prediction_ids, late, strict=True)
            if identifier and truth is not None
        ]
        self._waiting.append(
            (now + timedelta(days=1) + LABEL_DELAY, [each[0] for each in known], [each[1] for each in known])
        )

    def inputs_at(self, flights: pl.DataFrame, now: datetime) -> pl.DataFrame:
        """What is known of flights at their departure: the online features of the day, and the weather observed."""
        ws, rows = self.ws, self.features.scheduled(flights.lazy()).collect()
        known = ws.features.online_frame("yesterday", rows, at=now, full_names=True)
        weather = self.sources.weather.sort("observed_at")
        joined = known.sort("scheduled_at").join_asof(
            weather, left_on="scheduled_at", right_on="observed_at", by="origin", tolerance="6h", check_sortedness=False
        )
        inputs: pl.DataFrame = self.features.as_inputs(joined)
        return inputs

    def _infer(self, columns: dict[str, list[Any]], keys: list[str], times: list[datetime]) -> Any:
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                client = self._inference()
                self._expect_newest(client.url)
                return client.infer_many("delay", columns, keys=keys, event_times=times)
            except Unavailable:
                self.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def _inference(self) -> InferenceClient:
        """The inference process's own address: 200,000 requests need no second server on their way."""
        from loopwright.serve import InferenceClient

        if self._client is None:
            try:
                told = httpx.get(f"{self.up.ensure()}/health", timeout=10.0).json()
            except httpx.HTTPError as error:
                raise Unavailable(f"the server does not answer: {error}") from None
            if not told.get("inference"):
                raise Unavailable("the inference process is not ready yet")
            self._client = InferenceClient(told["inference"])
        return self._client

    def _expect_newest(self, inference: str) -> None:
        """What has been decided is published; the inference process follows a moment later.

        Raises:
            Unavailable: it still serves what was before.
        """
        published = self.ws.endpoints.serving_revision()
        if published == self._served:
            return
        try:
            told = httpx.get(f"{inference}/v2/health/ready", timeout=10.0).json()
        except httpx.HTTPError as error:
            raise Unavailable(f"the inference process does not answer: {error}") from None
        if told["revision"] < published:
            raise Unavailable(f"the inference process serves revision {told['revision']}; the newest is {published}")
        self._served = published

    def _send_labels(self, now: datetime) -> None:
        """Feedback for the flights whose outcome is due."""
        while self._waiting and self._waiting[0][0] <= now:
            due, identifiers, truths = self._waiting.popleft()
            rows = [Feedback(identifier, truth, due) for identifier, truth in zip(identifiers, truths, strict=True)]
            for start in range(0, len(rows), _FEEDBACK_ROWS):
                self.counts.labels += self._feedback(rows[start : start + _FEEDBACK_ROWS])

    def _feedback(self, rows: list[Feedback]) -> int:
        accepted: int = self.ask(lambda remote: remote.monitors.feedback("delay", rows)).accepted
        return accepted

    def _settle(self) -> None:
        deadline = time.monotonic() + _SETTLE_S
        while True:
            done = self.ask(lambda remote: remote.loops.settle(timeout_s=30.0))
            if done.settled:
                return
            if time.monotonic() > deadline:
                raise Unavailable("the controller does not settle", where=", ".join(done.waiting_for))

    @staticmethod
    def _between(column: str, begin: datetime, end: datetime) -> pl.Expr:
        import polars as pl

        return (pl.col(column) >= begin) & (pl.col(column) < end)
