"""The live feed: events as server-sent events, from a position on (WHATWG HTML §9.2)."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import msgspec
from starlette.responses import Response, StreamingResponse

from loopwright.core import Invalid, Unauthorized, Unavailable
from loopwright.server.feed import Feed
from loopwright.server.guard import Guard, head_of
from loopwright.server.route import Call, RouteSpec

PATH = "/api/v1/events/stream"
_QUIET_S = 15.0
_RECHECK_S = 30.0
_BATCH = 500


class EventStream:
    """Answers the stream's route. At most `limit` streams at once; each ends when its caller may no longer read."""

    def __init__(self, feed: Feed, guard: Guard, limit: int) -> None:
        self._feed, self._guard, self._limit = feed, guard, limit
        self._open = 0

    def route(self) -> RouteSpec:
        """The stream's route."""
        return RouteSpec("GET", PATH, "events:read", self.answer)

    async def answer(self, call: Call) -> Response:
        """Begin a stream. `Last-Event-ID`, else `after`, says behind which position; without both, from now on.

        Raises:
            Unavailable: too many streams are open.
            Invalid: the position is no number.
        """
        if self._open >= self._limit:
            raise Unavailable(f"{self._open} streams are open, which is the limit", next_step="try again later")
        position = await self._start(call)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(self._lines(call, position), media_type="text/event-stream", headers=headers)

    async def _start(self, call: Call) -> int:
        given = call.request.headers.get("last-event-id") or call.request.query_params.get("after")
        if given is None:
            newest = await call.ask("events.latest", limit=1)
            return newest[0].position or 0 if newest else 0
        if not given.isdecimal():
            raise Invalid(f"{given[:100]!r} is not the position of an event", where="Last-Event-ID")
        return int(given)

    async def _lines(self, call: Call, position: int) -> AsyncIterator[bytes]:
        kinds = tuple(call.request.query_params.getlist("kinds"))
        self._open += 1
        checked = time.monotonic()
        try:
            yield b"retry: 2000\n\n"
            while not self._feed.closing:
                if time.monotonic() - checked > _RECHECK_S:
                    if not await self._still_known(call):
                        return
                    checked = time.monotonic()
                seen = self._feed.position
                events = await call.ask("events.list", after=position, limit=_BATCH, kinds=kinds)
                for event in events:
                    position = event.position
                    yield b"id: %d\ndata: %s\n\n" % (position, msgspec.json.encode(event))
                if len(events) < _BATCH and not await self._feed.wait_beyond(max(position, seen), _QUIET_S):
                    yield b": quiet\n\n"
        finally:
            self._open -= 1

    async def _still_known(self, call: Call) -> bool:
        try:
            identity, _ = await self._guard.identity_of(head_of(call.request), call.request)
        except Unauthorized:
            return False
        return identity is not None
