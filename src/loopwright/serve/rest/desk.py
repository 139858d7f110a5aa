"""The desk: what every front needs to get from an exchange to a query, and from an answer or an error to a response."""

from __future__ import annotations

import asyncio
import sys
import time
import traceback
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any

from loopwright.core import Invalid, LoopwrightError
from loopwright.serve.dataplane import DataPlane
from loopwright.serve.intake import Rows
from loopwright.serve.loaded import LoadedEndpoint
from loopwright.serve.query import Answer, Query
from loopwright.serve.rest.encodings import decoded
from loopwright.serve.rest.http import Exchange, HttpLimits
from loopwright.serve.rest.responses import JSON
from loopwright.serve.rest.routing import Refusal, WrongMethod

_MOST_SHOWN_IDS = 32
RETRY = b"retry-after: 1\r\n"
_BODY_BYTES = HttpLimits().body_bytes


class Desk:
    """Takes queries to the data plane for the fronts."""

    def __init__(self, plane: DataPlane, names: Callable[[], Collection[str]]) -> None:
        """Args:
        names: of all models that the process knows, in memory or not.
        """
        self.plane, self._names = plane, names
        self._tasks: set[asyncio.Task[None]] = set()

    def endpoint(self, name: str) -> LoadedEndpoint:
        """The endpoint of that name; the only one where a request names none.

        Raises:
            NotFound: there is none.
            Invalid: there are several, and the request says not which.
        """
        if name:
            return self.plane.endpoint(name)
        known = sorted(self._names())
        if len(known) > 1:
            raise Invalid(
                f"{len(known)} models are served here, and the request names none",
                next_step=f"name one of {', '.join(known[:20])}, or set LOOPWRIGHT_DEFAULT_MODEL",
            )
        return self.plane.endpoint(known[0] if known else "")

    def body(self, exchange: Exchange) -> bytes:
        """The body without its content encoding.

        Raises:
            Invalid: the encoding is unknown, or the body is damaged.
        TooLarge: it is too large without it.
        """
        encoding = exchange.headers.get(b"content-encoding")
        return exchange.body if encoding is None else decoded(exchange.body, encoding, _BODY_BYTES)

    def ask(
        self,
        exchange: Exchange,
        endpoint: LoadedEndpoint,
        rows: Rows,
        write: Callable[[Answer], tuple[bytes, bytes]],
        refusal: Refusal,
        *,
        version: str = "",
        keys: Sequence[str] | None = None,
        event_times: Sequence[int] | None = None,
        head: Callable[[Answer], bytes] | None = None,
    ) -> None:
        """Ask the data plane, and answer the exchange when it has answered.

        Args:
            rows: as the endpoint's intake made them.
            write: gives the body and its content type.
            refusal: how the protocol tells of an error.
            version: of the model; empty for the traffic's choice.
            keys: what each row is assigned by; by default the header `loopwright-key`, for all rows.
            head: gives further lines of the response's head, each ended by CRLF.

        Raises:
            Unavailable: too many rows wait already.
            NotFound: the version is not served.
            Invalid: too many rows, or the variant that should answer lacks an input.
        """
        exchange.endpoint = endpoint.spec.name
        given = exchange.headers.get(b"loopwright-key")
        if keys is None and given:
            keys = [given.decode("utf-8", "replace")] * len(rows)

        def reply(answer: Answer | LoopwrightError) -> None:
            try:
                if isinstance(answer, LoopwrightError):
                    raise answer
                body, content_type = write(answer)
                self.count(exchange)
                more = head(answer) if head is not None else b""
                exchange.respond(200, body, content_type, _ids_header(answer.ids) + more)
            except Exception as error:  # noqa: BLE001  (answered; other queries wait for their replies)
                self.refuse(exchange, error, refusal)

        query = Query(
            endpoint.spec.name,
            rows,
            reply,
            keys=keys,
            event_times=event_times,
            version=version,
            started_ns=exchange.started_ns,
        )
        self.plane.submit(query, endpoint)

    def count(self, exchange: Exchange) -> None:
        """Count a request to infer that is about to be answered well."""
        metrics, name = self.plane.metrics, exchange.endpoint
        metrics.requests[name, 200] += 1
        metrics.latency[name].observe((time.monotonic_ns() - exchange.started_ns) * 1e-9)

    def count_all(self, name: str, started_ns: Sequence[int]) -> None:
        """Count requests to an endpoint that were answered well, by when they had arrived."""
        metrics, now_ns = self.plane.metrics, time.monotonic_ns()
        metrics.requests[name, 200] += len(started_ns)
        metrics.latency[name].observe_all([(now_ns - one) * 1e-9 for one in started_ns])

    def refuse(self, exchange: Exchange, error: Exception, refusal: Refusal) -> None:
        """Answer with an error; one that nobody raised on purpose is reported in full, and not shown to the caller."""
        if not isinstance(error, LoopwrightError):
            traceback.print_exception(error, file=sys.stderr)
            error = LoopwrightError("the server failed on this request")
        self.plane.metrics.requests[exchange.endpoint, error.http_status] += 1
        extra = RETRY if error.http_status == 503 else b""
        if isinstance(error, WrongMethod):
            extra = b"allow: %b\r\n" % ", ".join(error.allowed).encode()
        exchange.respond(error.http_status, refusal(error), JSON, extra)

    def turn_away(self, exchange: Exchange, body: bytes) -> None:
        """Answer a request that there is no time for, at less cost than an answer has: there may be very many."""
        self.count_turned_away()
        exchange.respond(503, body, JSON, RETRY)

    def count_turned_away(self, requests: int = 1) -> None:
        """Count requests that there is no time for; nobody has looked what they ask."""
        self.plane.metrics.shed += requests
        self.plane.metrics.requests["", 503] += requests

    def later(
        self, exchange: Exchange, work: Coroutine[Any, Any, bytes], refusal: Refusal, content_type: bytes = JSON
    ) -> None:
        """Answer with the body that some work gives, when it is done."""

        async def run() -> None:
            try:
                exchange.respond(200, await work, content_type)
            except Exception as error:  # noqa: BLE001  (answered, and reported if it is a fault of ours)
                self.refuse(exchange, error, refusal)

        task = asyncio.get_running_loop().create_task(run(), name="loopwright-front")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _ids_header(ids: list[str]) -> bytes:
    """The prediction ids of a small answer, for protocols whose body has no place for them."""
    if not ids or len(ids) > _MOST_SHOWN_IDS or not all(ids):
        return b""
    return b"loopwright-prediction-ids: %b\r\n" % ",".join(ids).encode()
