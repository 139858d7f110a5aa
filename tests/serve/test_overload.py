"""What is refused for want of time is refused alike, and at once, however it is found out."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from tests.serve.test_dataplane import MakePlane, plus, run, variant

from loopwright.serve.admission import Limits
from loopwright.serve.rest import App
from loopwright.serve.rest.http import HttpServer

__all__ = ["plus"]
BODY = b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1]}]}'
REQUEST = b"POST /v2/models/e/infer HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)
FULL = Limits(turn_requests=0, turn_s=-1.0, burst_s=0.0, worth_s=0.0)


def test_a_full_process_turns_requests_away_and_takes_them_again(make_plane: MakePlane, plus: Any) -> None:
    made = make_plane(limits=FULL)
    made.serve((variant("champion"), plus(1)))

    async def work() -> list[bytes]:
        server = HttpServer(App(made.plane))
        port = await server.listen("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def asked(data: bytes) -> bytes:
            writer.write(data)
            head = await reader.readuntil(b"\r\n\r\n")
            return head + await reader.readexactly(int(re.search(rb"length: (\d+)", head)[1]))  # type: ignore[index]

        found = [await asked(REQUEST), await asked(REQUEST), await asked(REQUEST * 2), await asked(b"")]
        made.plane.limits = Limits()
        found += [await asked(REQUEST * 2), await asked(b"")]
        made.plane.limits = FULL
        found.append(await asked(REQUEST.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")))
        writer.close()
        await server.drain(1)
        return found

    first, *others, last = run(work())
    told = b'{"error":"more requests arrive than can be answered (try again in a second)"}'
    assert first.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"\r\nretry-after: 1\r\n" in first
    assert first.endswith(b"\r\n\r\n" + told)
    assert others[:3] == [first] * 3, "what is turned away early reads as what is refused"
    assert [b'"data":[2.0]' in answer for answer in others[3:]] == [True, True]
    assert last == first.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1)
    assert (made.metrics.shed, made.metrics.requests["", 503], made.metrics.requests["e", 200]) == (5, 5, 2)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/models/e:predict", b'{"instances": [1.0]}'),
        ("/v1/models/e:regress", b'{"examples": [{"x": 1.0}]}'),
        ("/invocations", b'{"inputs": [1.0]}'),
        ("/score", b'{"data": [[1.0]]}'),
        ("/predict", b'{"instances": [1.0]}'),
        ("/endpoints/e/predict", b'{"rows": [{"x": 1.0}]}'),
    ],
)
def test_each_protocol_refuses_before_it_reads(make_plane: MakePlane, plus: Any, path: str, body: bytes) -> None:
    made = make_plane(limits=FULL)
    made.serve((variant("champion"), plus(1)))

    async def work() -> bytes:
        server = HttpServer(App(made.plane))
        port = await server.listen("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        lines = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        writer.write(f"{lines}content-length: {len(body)}\r\n\r\n".encode() + body)
        head = await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await server.drain(1)
        return head

    head = run(work())
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nretry-after: 1\r\n" in head
    assert made.metrics.shed == 1
