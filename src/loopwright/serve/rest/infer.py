"""The Open Inference Protocol V2 over HTTP: the request to infer, the most used route."""

from __future__ import annotations

from loopwright.core import LoopwrightError
from loopwright.serve.loaded import LoadedEndpoint
from loopwright.serve.query import Answer, Query
from loopwright.serve.rest import v2
from loopwright.serve.rest.desk import Desk
from loopwright.serve.rest.http import Exchange
from loopwright.serve.rest.routing import Route, Values


class Infer:
    """Answers requests to infer."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def routes(self) -> list[Route]:
        """The rows of the table of routes."""
        return [
            Route("POST", "/v2/models/{model}/infer", self.infer, v2.refusal),
            Route("POST", "/v2/models/{model}/versions/{version}/infer", self.infer, v2.refusal),
        ]

    def infer(self, exchange: Exchange, values: Values) -> None:
        """Answer one request."""
        name = values["model"]
        endpoint = self._desk.plane.endpoint(name)
        exchange.endpoint = name
        request = v2.read_request(exchange.body)
        rows = v2.rows_of(request, endpoint.intake)

        def reply(answer: Answer | LoopwrightError) -> None:
            try:
                self._reply(exchange, endpoint, request, answer)
            except Exception as error:  # noqa: BLE001  (answered; others wait for their replies)
                self._desk.refuse(exchange, error, v2.refusal)

        query = Query(
            name,
            rows,
            reply,
            keys=v2.keys_of(request, len(rows)),
            event_times=v2.event_times_of(request, len(rows)),
            version=values.get("version", ""),
            started_ns=exchange.started_ns,
        )
        self._desk.plane.submit(query, endpoint)

    def _reply(
        self, exchange: Exchange, endpoint: LoadedEndpoint, request: v2.InferRequest, answer: Answer | LoopwrightError
    ) -> None:
        if isinstance(answer, LoopwrightError):
            raise answer
        body = v2.write_answer(answer, request, endpoint)
        self._desk.count(exchange)
        exchange.respond(200, body)
