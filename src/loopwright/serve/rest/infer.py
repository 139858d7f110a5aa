"""The Open Inference Protocol V2 over HTTP: the request to infer, the most used route."""

from __future__ import annotations

from loopwright.core import LoopwrightError
from loopwright.serve.query import Answer, Query
from loopwright.serve.rest import v2
from loopwright.serve.rest.desk import Desk
from loopwright.serve.rest.http import Exchange
from loopwright.serve.rest.routing import Route, Values
from loopwright.serve.rest.v2_codec import codec_of


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
        codec = codec_of(endpoint)
        request, rows = codec.read(exchange.body)

        def reply(answer: Answer | LoopwrightError) -> None:
            try:
                if isinstance(answer, LoopwrightError):
                    raise answer
                body = codec.write(answer, request)
                self._desk.count(exchange)
                exchange.respond(200, body)
            except Exception as error:  # noqa: BLE001  (answered; others wait for their replies)
                self._desk.refuse(exchange, error, v2.refusal)

        query = Query(
            name,
            rows,
            reply,
            keys=v2.keys_of(request, len(rows)) if request.parameters else None,
            event_times=v2.event_times_of(request, len(rows)) if request.parameters else None,
            version=values.get("version", ""),
            started_ns=exchange.started_ns,
        )
        self._desk.plane.submit(query, endpoint)
