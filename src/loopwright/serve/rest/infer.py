"""The Open Inference Protocol V2 over HTTP: the request to infer, in JSON or with binary tensors."""

from __future__ import annotations

import time

from loopwright.core import LoopwrightError
from loopwright.serve.admission import too_much
from loopwright.serve.loaded import LoadedEndpoint
from loopwright.serve.query import Answer, Query
from loopwright.serve.rest import v2, v2_binary, v2_binary_answers
from loopwright.serve.rest.desk import RETRY, Desk
from loopwright.serve.rest.encodings import decoded
from loopwright.serve.rest.express import show
from loopwright.serve.rest.http import Exchange
from loopwright.serve.rest.responses import written
from loopwright.serve.rest.routing import Route, Values
from loopwright.serve.rest.v2_codec import codec_of

_OURS = frozenset({"key", "event_time", "timeout"})


class Infer:
    """Answers requests to infer."""

    def __init__(self, desk: Desk, body_bytes: int = 64 << 20) -> None:
        """Args:
        body_bytes: how long a body may be when it is no longer compressed.
        """
        self._desk, self._body_bytes = desk, body_bytes
        self._too_much = v2.refusal(too_much())
        self._turned_away = written(503, self._too_much, extra=RETRY)

    def routes(self) -> list[Route]:
        """The rows of the table of routes."""
        return [
            Route("POST", "/v2/models/{model}/infer", self.infer, v2.refusal),
            Route("POST", "/v2/models/{model}/versions/{version}/infer", self.infer, v2.refusal),
        ]

    def _turn_away(self) -> bytes | None:
        """The response to a request that there is no time for; None while there is."""
        if not self._desk.plane.is_full(time.monotonic_ns()):
            return None
        self._desk.count_turned_away()
        return self._turned_away

    def _admit_to(self, endpoint: LoadedEndpoint, exchange: Exchange) -> None:
        """Refuse what the lanes of an endpoint have no time for; next ones with the same head before they get here."""
        plane, name = self._desk.plane, endpoint.spec.name

        def turn_away() -> bytes | None:
            now_ns, found = time.monotonic_ns(), plane.endpoints.get(name)
            if not plane.is_full(now_ns) and (found is None or found.inline or not plane.is_full_for(found, now_ns)):
                return None
            self._desk.count_turned_away()
            return self._turned_away

        if exchange.head.turn_away in (None, self._turn_away):
            exchange.head.turn_away = turn_away
        plane.admit_to(endpoint, exchange.started_ns)

    def infer(self, exchange: Exchange, values: Values) -> None:
        """Answer one request."""
        if self._desk.plane.is_full(exchange.started_ns):
            exchange.head.turn_away = exchange.head.turn_away or self._turn_away  # the next ones with this head
            self._desk.turn_away(exchange, self._too_much)
            return
        endpoint = self._desk.plane.endpoint(values["model"])
        name = exchange.endpoint = endpoint.spec.name
        if not endpoint.inline:
            self._admit_to(endpoint, exchange)
        codec, headers, body = codec_of(endpoint), exchange.headers, exchange.body
        if b"content-encoding" in headers:
            body = decoded(body, headers[b"content-encoding"], self._body_bytes)
        if v2_binary.HEADER in headers:
            request, rows = v2_binary.read_request(body, headers[v2_binary.HEADER], endpoint.intake)
        else:
            request, rows = codec.read(body)

        def reply(answer: Answer | LoopwrightError) -> None:
            try:
                if isinstance(answer, LoopwrightError):
                    raise answer
                if v2_binary_answers.wants_binary(request):
                    found, header = v2_binary_answers.write_answer(answer, request, endpoint)
                    self._desk.count(exchange)
                    exchange.respond(200, found, v2_binary.OCTETS, header)
                    return
                found = codec.write(answer, request)
                self._desk.count(exchange)
                exchange.respond(200, found)
            except Exception as error:  # noqa: BLE001  (answered; others wait for their replies)
                self._desk.refuse(exchange, error, v2.refusal)

        is_plain = not request.parameters or _OURS.isdisjoint(request.parameters)
        query = Query(
            name,
            rows,
            reply,
            keys=None if is_plain else v2.keys_of(request, len(rows)),
            event_times=None if is_plain else v2.event_times_of(request, len(rows)),
            deadline_ns=0 if is_plain else v2.deadline_of(request, exchange.started_ns),
            version=values.get("version", ""),
            started_ns=exchange.started_ns,
        )
        self._desk.plane.submit(query, endpoint)
        if is_plain and not query.version and (exchange.head.lane is None or exchange.head.forms is not None):
            show(exchange, request, endpoint, self._desk, self._turned_away)
