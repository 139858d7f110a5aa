"""Our own API: named columns in, a record per row out, with the prediction's id, who answered, and why if asked.

`POST /endpoints/NAME/predict` takes `{"rows": [{...}]}` or `{"columns": {...: [...]}}`, and may have `key`,
`event_time` (one for all rows, or a list) and `explain` (true, or `{"output": ..., "pairs": ...}`). Where the model's
bundle says how its features are found, `keys` brings those of entities, `{"origin": "JFK"}` or a list per key, and the
process looks the features up; `GET /endpoints/NAME` says what a request brings. `POST /endpoints/NAME/feedback` takes
the truth about predictions, by their ids.
"""

from __future__ import annotations

from typing import Any

import msgspec

from loopwright.core import Conflict, Invalid
from loopwright.serve.asking import ask
from loopwright.serve.explaining import Explainer, Explanation
from loopwright.serve.feature_reads import FeatureReads
from loopwright.serve.feedback import FeedbackIntake
from loopwright.serve.filling import described, fill, looked_up, needs_lookup
from loopwright.serve.intake import Rows
from loopwright.serve.loaded import LoadedEndpoint
from loopwright.serve.query import Answer
from loopwright.serve.rest import v2
from loopwright.serve.rest.desk import Desk
from loopwright.serve.rest.gathering import asked_columns
from loopwright.serve.rest.http import Exchange
from loopwright.serve.rest.responses import JSON
from loopwright.serve.rest.routing import Route, Values
from loopwright.serve.rest.tabular import rows_of_columns, rows_of_instances

_MOST_PAIRS = 256
_MOST_TIMEOUT_MS = 3_600_000


class ExplainRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which output is to be explained, over how many pairs of orders."""

    output: str = ""
    pairs: int = 16


class PredictRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rows to answer, in one of two forms, or the keys by which their features are found.

    `timeout_ms` is how long the caller waits; what is not answered by then is answered with 503.
    """

    rows: list[Any] | None = None
    columns: dict[str, Any] | None = None
    keys: dict[str, Any] | list[dict[str, Any]] | None = None
    key: str | int | list[Any] | None = None
    event_time: str | int | list[Any] | None = None
    timeout_ms: float | None = None
    explain: bool | ExplainRequest = False


_decode = msgspec.json.Decoder(PredictRequest).decode
_encode = msgspec.json.encode


class Native:
    """Answers our own API."""

    def __init__(
        self, desk: Desk, explainer: Explainer | None, reads: FeatureReads, feedback: FeedbackIntake | None
    ) -> None:
        """Args:
        explainer: None where nothing can be explained, as no bundles are at hand.
        reads: looks features up.
        feedback: None where no feedback is taken.
        """
        self._desk, self._explainer, self._reads, self._feedback = desk, explainer, reads, feedback

    def routes(self) -> list[Route]:
        """The rows of the table of routes."""
        return [
            Route("GET", "/endpoints/{model}", self._described, v2.refusal),
            Route("POST", "/endpoints/{model}/predict", self._predict, v2.refusal),
            Route("POST", "/endpoints/{model}/versions/{version}/predict", self._predict, v2.refusal),
            Route("POST", "/endpoints/{model}/feedback", self._take_feedback, v2.refusal),
        ]

    def _described(self, exchange: Exchange, values: Values) -> None:
        exchange.respond(200, _encode(described(self._desk.plane.endpoint(values["model"]))), JSON)

    def _take_feedback(self, exchange: Exchange, values: Values) -> None:
        intake, name = self._feedback, values["model"]
        if intake is None:
            raise Conflict(
                "this process keeps no log, so it takes no feedback",
                next_step="send it to the workspace's server, or start this one with --journal",
            )
        body, spec = self._desk.body(exchange), self._desk.plane.endpoint(name).spec
        exchange.endpoint = name

        async def taken() -> bytes:
            return _encode({"accepted": await intake.take(spec.project, name, body)})

        self._desk.later(exchange, taken(), v2.refusal)

    def _predict(self, exchange: Exchange, values: Values) -> None:
        self._desk.plane.admit(exchange.started_ns)
        request = _read(self._desk.body(exchange))
        endpoint = self._desk.plane.endpoint(values["model"])
        if request.keys is not None or looked_up(endpoint):
            columns = asked_columns(request.rows, request.columns, request.keys)
            if columns is not None and needs_lookup(endpoint, columns, request.keys is not None):
                exchange.endpoint = endpoint.spec.name
                work = self._filled(exchange, endpoint, request, columns, values.get("version", ""))
                self._desk.later(exchange, work, v2.refusal)
                return
        rows = _rows(request, endpoint)
        given = _given(request, len(rows))
        version = values.get("version", "")
        if request.timeout_ms is not None:
            exchange.endpoint = endpoint.spec.name
            given |= {"version": version, "deadline_ns": _deadline(request, exchange)}
            self._desk.later(exchange, self._answered(exchange, endpoint, rows, request, given), v2.refusal)
            return
        if request.explain is False:
            write = _written
            self._desk.ask(exchange, endpoint, rows, write, v2.refusal, version=version, **given)
            return
        exchange.endpoint = endpoint.spec.name
        given["version"] = version
        self._desk.later(exchange, self._explained(exchange, endpoint, rows, request.explain, given), v2.refusal)

    async def _filled(
        self,
        exchange: Exchange,
        endpoint: LoadedEndpoint,
        request: PredictRequest,
        columns: dict[str, list[Any]],
        version: str,
    ) -> bytes:
        """The answer to a request whose features are looked up."""
        count = len(next(iter(columns.values())))
        given = _given(request, count)
        deadline_ns = _deadline(request, exchange)
        filled = await fill(self._reads, endpoint, columns, count, given["event_times"], deadline_ns)
        given |= {"version": version, "own": filled.own, "deadline_ns": deadline_ns}
        return await self._answered(exchange, endpoint, filled.rows, request, given)

    async def _answered(
        self,
        exchange: Exchange,
        endpoint: LoadedEndpoint,
        rows: Rows,
        request: PredictRequest,
        given: dict[str, Any],
    ) -> bytes:
        if request.explain is not False:
            return await self._explained(exchange, endpoint, rows, request.explain, given)
        answer = await ask(self._desk.plane, endpoint, rows, exchange.started_ns, **given)
        self._desk.count(exchange)
        return _encode({"predictions": _records(answer, None)})

    async def _explained(
        self,
        exchange: Exchange,
        endpoint: LoadedEndpoint,
        rows: Rows,
        wanted: bool | ExplainRequest,
        given: dict[str, Any],
    ) -> bytes:
        if self._explainer is None:
            raise Invalid("answers cannot be explained here")
        how = wanted if isinstance(wanted, ExplainRequest) else ExplainRequest()
        if not 2 <= how.pairs <= _MOST_PAIRS:
            raise Invalid(f"explain.pairs is {how.pairs}", next_step=f"give 2 to {_MOST_PAIRS}")
        answer = await ask(self._desk.plane, endpoint, rows, exchange.started_ns, **given)
        explanations = await self._explainer.explain(answer, how.output, how.pairs)
        self._desk.count(exchange)
        return _encode({"predictions": _records(answer, explanations)})


def _read(body: bytes) -> PredictRequest:
    try:
        return _decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        hint = "write a missing value as null; JSON has no NaN" if b"NaN" in body[:100_000] else ""
        raise Invalid(f"the request cannot be read: {error}", next_step=hint) from None


def _rows(request: PredictRequest, endpoint: LoadedEndpoint) -> Rows:
    if (request.rows is None) == (request.columns is None):
        raise Invalid("the request has one of 'rows' and 'columns'")
    if request.rows is not None:
        return rows_of_instances(request.rows, endpoint.intake, "rows")
    return rows_of_columns(request.columns, endpoint.intake, "columns")


def _given(request: PredictRequest, count: int) -> dict[str, Any]:
    """Whose rows they are and when they happened."""
    parameters = {"key": request.key, "event_time": request.event_time}
    told = v2.InferRequest([], parameters=parameters)
    return {"keys": v2.keys_of(told, count), "event_times": v2.event_times_of(told, count)}


def _deadline(request: PredictRequest, exchange: Exchange) -> int:
    """Until when the caller waits, on the monotonic clock; 0 where nothing is said."""
    given = request.timeout_ms
    if given is None:
        return 0
    if not 0 < given <= _MOST_TIMEOUT_MS:
        raise Invalid(f"timeout_ms is {given}", next_step=f"give a number above 0, up to {_MOST_TIMEOUT_MS}")
    return exchange.started_ns + int(given * 1e6)


def _written(answer: Answer) -> tuple[bytes, bytes]:
    return _encode({"predictions": _records(answer, None)}), JSON


def _records(answer: Answer, explanations: list[Explanation] | None) -> list[dict[str, Any]]:
    names = list(answer.outputs)
    outputs = zip(*answer.outputs.values(), strict=True)
    records: list[dict[str, Any]] = [
        {"id": number, "outputs": dict(zip(names, row, strict=True)), "variant": variant, "model": model}
        for number, row, variant, model in zip(answer.ids, outputs, answer.variants, answer.models, strict=True)
    ]
    for record, explanation in zip(records, explanations or (), strict=False):
        record["explanation"] = explanation
    return records
