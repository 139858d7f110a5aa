"""What fronts ask of the data plane, and what it answers: no transport, no encoding."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from loopwright.core import LoopwrightError
from loopwright.serve.intake import Row
from loopwright.serve.loaded import LoadedEndpoint, LoadedVariant


class Answer:
    """The answer to a query: a value per row in each list.

    `ids` is empty for a row that is not in the log; `variants` and `models` say who answered it.
    """

    __slots__ = ("ids", "models", "outputs", "query", "variants")

    def __init__(
        self,
        query: Query,
        ids: list[str],
        variants: list[str],
        models: list[str],
        outputs: dict[str, list[Any]],
    ) -> None:
        self.query, self.ids, self.variants, self.models, self.outputs = query, ids, variants, models, outputs


class Query:
    """Rows for an endpoint to answer.

    Args:
        endpoint: its name.
        rows: values in the order of the endpoint's inputs, from its Intake.
        keys: what each row is assigned by; None where the caller gave none.
        event_times: microseconds since 1970, per row; None for now.
        version: answer with this model version, whatever the traffic says; empty for the traffic's choice.
        started_ns: when the request had arrived, on the monotonic clock; now by default.
        reply: is called once, with the answer or the reason why there is none.
    """

    __slots__ = (
        "endpoint",
        "event_times",
        "failure",
        "is_large",
        "keys",
        "parts",
        "received_at_us",
        "reply",
        "rows",
        "started_ns",
        "version",
        "waiting",
    )

    def __init__(
        self,
        endpoint: str,
        rows: list[Row],
        reply: Callable[[Answer | LoopwrightError], None],
        *,
        keys: Sequence[str] | None = None,
        event_times: Sequence[int] | None = None,
        version: str = "",
        started_ns: int = 0,
    ) -> None:
        self.endpoint, self.rows, self.reply = endpoint, rows, reply
        self.keys, self.event_times, self.version = keys, event_times, version
        self.started_ns = started_ns or time.monotonic_ns()
        self.received_at_us = time.time_ns() // 1000
        self.waiting = 0
        self.is_large = False
        self.parts: list[Part] = []
        self.failure: LoopwrightError | None = None


class Part:
    """The rows of one query that one variant answers, in the order of the variant's inputs."""

    __slots__ = ("endpoint", "failure", "loaded", "outputs", "places", "query", "rows")

    def __init__(
        self, query: Query, endpoint: LoadedEndpoint, loaded: LoadedVariant, rows: list[Row], places: list[int] | None
    ) -> None:
        self.query, self.endpoint, self.loaded, self.rows = query, endpoint, loaded, rows
        self.places = places  # where the rows stand in the query; None for all of them
        self.outputs: dict[str, list[Any]] = {}
        self.failure: LoopwrightError | None = None
