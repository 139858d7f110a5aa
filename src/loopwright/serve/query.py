"""What fronts ask of the data plane, and what it answers: no transport, no encoding."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from loopwright.core import LoopwrightError
from loopwright.serve.block import Array, Block
from loopwright.serve.ids import Ids
from loopwright.serve.intake import Rows
from loopwright.serve.loaded import LoadedEndpoint, LoadedVariant


class Gathered(NamedTuple):
    """The requests of a query that was made of several: how many rows each has, and when it had arrived, in nanoseconds
    on the monotonic clock."""

    counts: list[int]
    started_ns: list[int]


class Query:
    """Rows for an endpoint to answer.

    Args:
        endpoint: its name.
        rows: from the endpoint's Intake: a block of arrays, or values in the order of its inputs.
        reply: is called once, with the answer or the reason why there is none.
        keys: what each row is assigned by; None where the caller gave none.
        event_times: microseconds since 1970, per row; None for now.
        version: answer with this model version, whatever the traffic says; empty for the traffic's choice.
        started_ns: when the request had arrived, on the monotonic clock; now by default.
        gathered: the requests that the rows are of; None for one.
        apart: is called in place of `reply` where a model refuses the rows of several requests: each is to be asked
            for itself then.
        own: rows as single variants take them, where these look their features up by other definitions; an error for
            a variant whose rows cannot be made.
        deadline_ns: past it, on the monotonic clock, rows that no model has answered yet are answered with
            Unavailable; 0 for the data plane's own limit.
    """

    __slots__ = (
        "apart",
        "count",
        "deadline_ns",
        "endpoint",
        "event_times",
        "failure",
        "gathered",
        "given_ids",
        "is_large",
        "keys",
        "own",
        "parts",
        "received_at_us",
        "reply",
        "rows",
        "started_ns",
        "timer",
        "version",
        "waiting",
    )

    def __init__(
        self,
        endpoint: str,
        rows: Rows,
        reply: Callable[[Answer | LoopwrightError], None],
        *,
        keys: Sequence[str] | None = None,
        event_times: Sequence[int] | None = None,
        version: str = "",
        started_ns: int = 0,
        deadline_ns: int = 0,
        own: Mapping[LoadedVariant, Rows | LoopwrightError] | None = None,
        gathered: Gathered | None = None,
        apart: Callable[[], None] | None = None,
    ) -> None:
        self.own, self.gathered, self.apart = own, gathered, apart
        self.endpoint, self.rows, self.reply = endpoint, rows, reply
        self.count = rows.count if isinstance(rows, Block) else len(rows)
        self.keys, self.event_times, self.version = keys, event_times, version
        self.started_ns = started_ns or time.monotonic_ns()
        self.deadline_ns = deadline_ns
        self.received_at_us = time.time_ns() // 1000
        self.waiting = 0
        self.is_large = False
        self.timer: asyncio.TimerHandle | None = None
        self.parts: list[Part] = []
        self.given_ids: list[str] | Ids = []  # of the predictions, by row; or those of the run that answered all rows
        self.failure: LoopwrightError | None = None

    @property
    def requests(self) -> int:
        """How many it is made of."""
        return 1 if self.gathered is None else len(self.gathered.counts)

    @property
    def arrived_ns(self) -> int:
        """When its requests had arrived, added up."""
        return self.started_ns if self.gathered is None else sum(self.gathered.started_ns)

    @property
    def ids(self) -> list[str]:
        """The predictions' ids by row; empty for a row that is not logged."""
        given = self.given_ids
        return given if isinstance(given, list) else given.listed(self.parts[0].start, self.count)


class Part:
    """The rows of one query that one variant answers, in the order of the variant's inputs.

    When its query is answered, a part no longer knows it: so query and parts are no circle, and their memory is given
    back at once.
    """

    __slots__ = ("batch", "count", "endpoint", "failure", "load", "loaded", "places", "query", "rows", "start")

    def __init__(
        self, query: Query, endpoint: LoadedEndpoint, loaded: LoadedVariant, rows: Rows, places: list[int] | None
    ) -> None:
        self.count = query.count if places is None else len(places)
        self.load = self.count * endpoint.intake.load  # in rows, where these are bounded
        self.query, self.endpoint, self.loaded, self.rows = query, endpoint, loaded, rows
        self.places = places  # where the rows stand in the query; None for all of them
        self.batch: Batch | None = None  # the run that answered it, whose row number `start` is its first
        self.start = 0
        self.failure: LoopwrightError | None = None

    def slice(self) -> slice:
        """Its rows within its batch."""
        return slice(self.start, self.start + self.count)


class Batch:
    """One run of a model: how many parts it answered, their rows together, and what it gave.

    `lists` holds the same values as `arrays`, as Python's own; made once for all parts, when the first asks. `notes`
    is for fronts: what they make for all parts at once.
    """

    __slots__ = ("_lists", "arrays", "notes", "parts", "rows")

    def __init__(self, parts: int, rows: Rows) -> None:
        self.parts, self.rows = parts, rows
        self.arrays: dict[str, Array] = {}
        self.notes: dict[Any, Any] = {}
        self._lists: dict[str, list[Any]] | None = None

    @property
    def lists(self) -> dict[str, list[Any]]:
        """A value per row for each output."""
        if self._lists is None:
            self._lists = {name: values.tolist() for name, values in self.arrays.items()}
        return self._lists


class Answer:
    """The answer to a query, row by row."""

    __slots__ = ("_ids", "_outputs", "query")

    def __init__(self, query: Query) -> None:
        self.query = query
        self._ids: list[str] | None = None
        self._outputs: dict[str, list[Any]] | None = None

    @property
    def ids(self) -> list[str]:
        """The prediction's id for each row; empty for a row that is not in the log."""
        if self._ids is None:
            self._ids = self.query.ids
        return self._ids

    @property
    def outputs(self) -> dict[str, list[Any]]:
        """A value per row for each output, as Python's own values."""
        if self._outputs is None:
            self._outputs = self._gathered()
        return self._outputs

    def arrays(self) -> dict[str, Array]:
        """An array per output, with a row per row."""
        import numpy as np

        parts = self.query.parts
        if len(parts) == 1:
            part, batch = parts[0], parts[0].batch
            assert batch is not None, "an answered query has been run"
            if batch.parts == 1:
                return batch.arrays
            return {name: values[part.slice()] for name, values in batch.arrays.items()}
        order = np.argsort([place for part in parts for place in part.places or ()])
        pieces: dict[str, list[Array]] = {}
        for part in parts:
            for name, values in part.batch.arrays.items() if part.batch else ():
                pieces.setdefault(name, []).append(values[part.slice()])
        if len({len(found) for found in pieces.values()}) > 1:  # variants with other outputs: some rows lack some
            return {name: np.array(values, dtype=object) for name, values in self.outputs.items()}
        return {name: np.concatenate(found)[order] for name, found in pieces.items()}

    @property
    def variants(self) -> list[str]:
        """The name of the variant that answered, for each row."""
        return self._of_each(lambda loaded: loaded.variant.name)

    @property
    def models(self) -> list[str]:
        """The ref of the model version that answered, for each row."""
        return self._of_each(lambda loaded: loaded.variant.model)

    def _of_each(self, told: Callable[[LoadedVariant], str]) -> list[str]:
        parts, count = self.query.parts, self.query.count
        if len(parts) == 1:
            return [told(parts[0].loaded)] * count
        found = [""] * count
        for part in parts:
            for place in part.places or ():
                found[place] = told(part.loaded)
        return found

    def _gathered(self) -> dict[str, list[Any]]:
        parts, count = self.query.parts, self.query.count
        if len(parts) == 1:
            part, batch = parts[0], parts[0].batch
            assert batch is not None, "an answered query has been run"
            if batch.parts == 1:
                return batch.lists
            end = part.start + count
            return {name: values[part.start : end] for name, values in batch.lists.items()}
        outputs: dict[str, list[Any]] = {}
        for part in parts:
            for name, values in part.batch.lists.items() if part.batch else ():
                whole = outputs.setdefault(name, [None] * count)
                for number, place in enumerate(part.places or (), part.start):
                    whole[place] = values[number]
        return outputs
