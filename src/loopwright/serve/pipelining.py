"""Many requests over few connections: pipelined HTTP/1.1, answers matched by order, lost ones asked again."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from typing import cast

import httptools
import msgspec

from loopwright.core import Unavailable
from loopwright.serve.wire import message_of

_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_WRITE_BYTES = 256 << 10


class PipelineSettings(msgspec.Struct, frozen=True):
    """Where to, how hard, and how connections are encrypted: None for not at all."""

    host: str
    port: int
    connections: int = 1
    pipeline: int = 128
    timeout_s: float = 30.0
    retry_s: float = 0.0
    tls: ssl.SSLContext | None = None


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """The response to one request."""

    status: int
    body: bytes

    @property
    def message(self) -> str:
        """What a refusal says."""
        return message_of(self.status, self.body)


class Exchanges:
    """Runs lists of requests, one list at a time, over connections that are kept between them."""

    def __init__(self, settings: PipelineSettings) -> None:
        self._settings = settings
        self._connections: list[_Connection] = []

    async def run(self, requests: list[bytes]) -> list[Outcome]:
        """The responses, in the order of the requests.

        Raises:
            Unavailable: the server cannot be reached, or has given no answer for longer than is allowed.
        """
        job = _Job(requests)
        wanted = min(self._settings.connections, max(len(requests), 1))
        try:
            await asyncio.gather(*(self._work(job, slot) for slot in range(wanted)))
        except BaseException:
            self.close()  # answers to what was given up must not be taken for those of the next list
            raise
        return [outcome for outcome in job.outcomes if outcome is not None]

    def close(self) -> None:
        """Close all connections."""
        for connection in self._connections:
            connection.close()
        self._connections.clear()

    async def _work(self, job: _Job, slot: int) -> None:
        """Keep one connection busy until the job is done, through pauses and new connections."""
        pause_s = _PAUSE_S
        while not job.done:
            answered = job.answered
            try:
                connection = await self._connected(slot)
                await connection.serve(job, self._settings)
            except OSError as error:
                self._give_up_if_late(job, str(error) or type(error).__name__)
            if job.answered == len(job.outcomes):
                return
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S) if job.answered == answered else _PAUSE_S
            await asyncio.sleep(pause_s)

    def _give_up_if_late(self, job: _Job, why: str) -> None:
        if time.monotonic() - job.last_answer > self._settings.retry_s:
            address = f"{self._settings.host}:{self._settings.port}"
            raise Unavailable(
                f"the inference server at {address} does not answer: {why}",
                next_step="is it running? loopwright up starts one",
            )

    async def _connected(self, slot: int) -> _Connection:
        while len(self._connections) <= slot:
            self._connections.append(_Connection())
        connection = self._connections[slot]
        if not connection.is_open:
            connection = self._connections[slot] = _Connection()
            loop = asyncio.get_running_loop()
            where = self._settings
            await loop.create_connection(lambda: connection, where.host, where.port, ssl=where.tls)
        return connection


class _Job:
    """A list of requests and what came of them."""

    def __init__(self, requests: list[bytes]) -> None:
        self._requests = requests
        self.outcomes: list[Outcome | None] = [None] * len(requests)
        self._waiting = deque(range(len(requests)))
        self.answered = 0
        self.last_answer = time.monotonic()

    @property
    def done(self) -> bool:
        return self.answered == len(self._requests)

    def take(self) -> tuple[int, bytes] | None:
        """The next request, if one waits."""
        if not self._waiting:
            return None
        number = self._waiting.popleft()
        return number, self._requests[number]

    def put_back(self, numbers: list[int]) -> None:
        """Requests to ask again, before the others."""
        self._waiting.extendleft(reversed(numbers))

    def settle(self, number: int, outcome: Outcome) -> None:
        self.outcomes[number] = outcome
        self.answered += 1
        self.last_answer = time.monotonic()


class _Connection(asyncio.Protocol):
    """One connection. Callbacks of the parser have the names that httptools wants."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._under_way: deque[int] = deque()
        self._body: list[bytes] = []
        self._job: _Job | None = None
        self._settings: PipelineSettings | None = None
        self._over: asyncio.Future[None] | None = None
        self._overloaded = False

    @property
    def is_open(self) -> bool:
        return self._transport is not None

    async def serve(self, job: _Job, settings: PipelineSettings) -> None:
        """Send and receive until nothing of the job is left to send here, or the server is overloaded.

        Raises:
            OSError: the connection was lost, or no answer came in time; what was under way is put back.
        """
        self._job, self._settings = job, settings
        self._overloaded = False
        self._over = asyncio.get_running_loop().create_future()
        self._fill()
        try:
            while not self._over.done():
                await asyncio.wait([self._over], timeout=min(settings.timeout_s, 1.0))
                if not self._over.done() and time.monotonic() - job.last_answer > settings.timeout_s:
                    self.close()
                    self._end(TimeoutError(f"no answer within {settings.timeout_s:g} s"))
            self._over.result()
        finally:
            self._job = None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._end(exc if isinstance(exc, OSError) else ConnectionResetError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.close()
            self._end(ConnectionResetError(f"the answer is no HTTP: {error}"))
            return
        self._fill()

    def on_message_begin(self) -> None:
        self._body = []

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        if not self._under_way or self._job is None:
            return
        number, status = self._under_way.popleft(), self._parser.get_status_code()
        retries = self._settings is not None and self._settings.retry_s > 0
        if status == 503 and retries and not self._late():
            self._overloaded = True
            self._job.put_back([number])
        else:
            self._job.settle(number, Outcome(status, b"".join(self._body)))
        if not self._parser.should_keep_alive():
            self.close()

    def _late(self) -> bool:
        assert self._job is not None
        assert self._settings is not None
        return time.monotonic() - self._job.last_answer > self._settings.retry_s

    def _fill(self) -> None:
        """Send as many requests as may be under way; finish when there is nothing more to wait for."""
        job, settings, transport = self._job, self._settings, self._transport
        if job is None or settings is None or transport is None:
            return
        parts: list[bytes] = []
        size = 0
        while not self._overloaded and len(self._under_way) < settings.pipeline and size < _WRITE_BYTES:
            taken = job.take()
            if taken is None:
                break
            self._under_way.append(taken[0])
            parts.append(taken[1])
            size += len(taken[1])
        if parts:
            transport.write(b"".join(parts))
        if not self._under_way:
            self._end(None)

    def _end(self, error: OSError | None) -> None:
        if self._job is not None and self._under_way:
            self._job.put_back(list(self._under_way))
        self._under_way.clear()
        if self._over is not None and not self._over.done():
            if error is None:
                self._over.set_result(None)
            else:
                self._over.set_exception(error)
