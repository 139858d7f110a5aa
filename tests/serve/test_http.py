"""The HTTP server on raw sockets: order, limits, and what a page of another site may not do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.examples import examples
from tests.serve.conftest import DIGEST, Plane, adding_bundle, failing_bundle

from loopwright.serve import Variant
from loopwright.serve.rest import App, HttpLimits, HttpServer

LIMITS = HttpLimits(
    head_bytes=2000, body_bytes=20_000, request_s=1.0, idle_s=2.0, pipelined=8, connections=20, linger_s=0
)


class Link:
    """A raw connection to the server under test."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def response(self) -> tuple[int, dict[str, str], bytes]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        lines = head.split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        body = await self.reader.readexactly(int(headers["content-length"]))
        return int(lines[0].split()[1]), headers, body

    async def closed(self) -> bool:
        return await self.reader.read(1) == b""


Open = Callable[[], Awaitable[Link]]


@pytest.fixture(scope="session")
def adding(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return adding_bundle(1.0, tmp_path_factory.mktemp("adding") / "bundle")


@pytest.fixture
def on_server(tmp_path: Path, adding: Any) -> Callable[..., Any]:
    """Runs a coroutine function with a way to open connections to a server that adds 1 to `x`."""

    def run(work: Callable[[Open], Awaitable[Any]], bundle: Any = adding, limits: HttpLimits = LIMITS) -> Any:
        async def main() -> Any:
            made = Plane(tmp_path)
            made.serve((Variant("champion", "model:m@3", DIGEST), bundle))
            server = HttpServer(App(made.plane, frozenset({b"127.0.0.1"})), limits)
            port = await server.listen("127.0.0.1", 0)

            async def connect() -> Link:
                return Link(*await asyncio.open_connection("127.0.0.1", port))

            try:
                return await asyncio.wait_for(work(connect), 30)
            finally:
                await server.drain(0.2)
                made.plane.close()

        return uvloop.run(main())

    return run


def tensor(values: list[Any], name: str = "x", datatype: str = "FP32") -> dict[str, Any]:
    return {"name": name, "shape": [len(values)], "datatype": datatype, "data": values}


def post(body: Any, path: str = "/v2/models/e/infer", headers: str = "", host: str = "127.0.0.1") -> bytes:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"POST {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Content-Length: {len(raw)}\r\n\r\n".encode() + raw


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


async def ask(connect: Open, request: bytes) -> tuple[int, Any]:
    link = await connect()
    link.send(request)
    status, _, body = await link.response()
    return status, json.loads(body)


def test_a_request_is_answered_in_the_protocols_form(on_server: Any) -> None:
    async def work(connect: Open) -> Any:
        return await ask(connect, post({"id": "q7", "inputs": [tensor([1.0, 2.5])]}))

    status, answer = on_server(work)
    assert status == 200
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("q7", "e", "3")
    assert answer["outputs"] == [{"name": "value", "datatype": "FP32", "shape": [2], "data": [2.0, 3.5]}]
    assert len(set(answer["parameters"]["prediction_ids"])) == 2
    assert (answer["parameters"]["variant"], answer["parameters"]["model"]) == ("champion", "model:m@3")


def test_pipelined_requests_are_answered_in_order_good_and_bad(on_server: Any) -> None:
    async def work(connect: Open) -> list[Any]:
        link = await connect()
        for number in range(40):
            good = {"inputs": [tensor([float(number)])]}
            link.send(get("/v2") if number % 10 == 3 else post(good if number % 7 else b"{"))
        return [await link.response() for _ in range(40)]

    for number, (status, _, body) in enumerate(on_server(work)):
        if number % 10 == 3:
            assert json.loads(body)["name"] == "loopwright"
        elif number % 7 == 0:
            assert status == 400
        else:
            assert json.loads(body)["outputs"][0]["data"] == [number + 1.0]


def test_a_request_in_pieces_and_in_chunks_is_one_request(on_server: Any) -> None:
    async def work(connect: Open) -> list[Any]:
        link = await connect()
        for byte in post({"inputs": [tensor([1.0])]}):
            link.send(bytes([byte]))
            await asyncio.sleep(0)
        first = await link.response()
        body = json.dumps({"inputs": [tensor([2.0])]}).encode()
        link.send(b"POST /v2/models/e/infer HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        for start in range(0, len(body), 9):
            part = body[start : start + 9]
            link.send(b"%x\r\n%b\r\n" % (len(part), part))
        link.send(b"0\r\n\r\n")
        return [first, await link.response()]

    assert [json.loads(body)["outputs"][0]["data"] for _, _, body in on_server(work)] == [[2.0], [3.0]]


@pytest.mark.parametrize(
    ("request_", "status", "message"),
    [
        (post(b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [NaN]}]}'), 400, "as null"),
        (post(b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1e400]}]}'), 400, "out of range"),
        (post({"inputs": [tensor([10**400])]}), 400, "input 'x', row 0: is too large"),
        (post({"inputs": [tensor([10**38 * 4])]}), 400, "too large for float32"),
        (post(b'{"inputs": ' + b"9" * 9000 + b"}"), 400, "protocol's form"),
        (post(b"[" * 15_000), 400, "protocol's form"),
        (
            post(b'{"inputs":[{"name":"x","shape":[' + b"9" * 9000 + b'],"datatype":"FP32","data":[1.0]}]}'),
            400,
            "inputs",
        ),
        (post(b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[' + b"9" * 9000 + b"]}]}"), 400, "input"),
        (
            post(b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":' + b"[" * 900 + b"]" * 900 + b"}]}"),
            400,
            "x",
        ),
        (post({"inputs": [tensor([1.0])], "parameters": {"event_time": 10**30}}), 400, "out of range"),
        (post({"inputs": []}), 400, "has no inputs"),
        (post({}), 400, "missing required field `inputs`"),
        (post([1]), 400, "Expected `object`"),
        (post({"inputs": [tensor([1.0], name="z")]}), 400, "no input 'z'"),
        (post({"inputs": [tensor(["a"])]}), 400, "input 'x', row 0: takes a number, not 'a'"),
        (post({"inputs": [tensor([1.0, None])]}), 400, "input 'x', row 1: is missing"),
        (post({"inputs": [tensor([1.0]) | {"shape": [2]}]}), 400, "has shape [2] and 1 values"),
        (post({"inputs": [tensor([1.0]) | {"shape": [-1]}]}), 400, "has shape [-1]"),
        (post({"inputs": [tensor([1.0]) | {"shape": [2147483648, 2147483648]}]}), 400, "has shape"),
        (post({"inputs": [tensor([]) | {"shape": [0]}]}), 400, "has no rows"),
        (post({"inputs": [tensor([1.0]) | {"datatype": "FP99"}]}), 400, "'FP99'"),
        (post({"inputs": [tensor([1.0])], "outputs": [{"name": "w"}]}), 400, "no output 'w'"),
        (
            post({"inputs": [tensor([1.0])], "outputs": [{"name": "value", "parameters": {"classification": 1}}]}),
            400,
            "'classification' is not offered",
        ),
        (post({"inputs": [tensor([1.0])], "parameters": {"key": [1, 2]}}), 400, "'key' has 2 values for 1 rows"),
        (post({"inputs": [tensor([1.0])], "parameters": {"event_time": "noon"}}), 400, "'event_time' is 'noon'"),
        (post({"inputs": [tensor([1.0])], "parameters": {"event_time": "2013-01-01"}}), 400, "with its zone"),
        (post({"inputs": [tensor([1.0])]}, path="/v2/models/other/infer"), 404, "no endpoint 'other'"),
        (post({"inputs": [tensor([1.0])]}, path="/v2/models/e/versions/9/infer"), 404, "version '9'"),
        (post({"inputs": [tensor([1.0])]}, path="/v2/models/e"), 405, "use GET"),
        (post({}, path="/v2/models/e/guess"), 404, "nothing at"),
        (get("/v2/models/e/x"), 404, "nothing at"),
        (b"DELETE /v2 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 405, "use GET"),
        (b"this is not http\r\n\r\n", 400, "no HTTP/1.1 request"),
        (post(b"x" * 20_001), 413, "20000 bytes"),
        (b"GET /v2 HTTP/1.1\r\nx: " + b"y" * 3000 + b"\r\n\r\n", 431, "2000 bytes"),
        (post({}, host="evil.example"), 403, "does not answer for the host"),
        (post({}, headers="Origin: http://evil.example\r\n"), 403, "evil.example"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else str(value)[:24],
)
def test_a_bad_request_gets_a_4xx_that_says_what_is_wrong(
    on_server: Any, request_: bytes, status: int, message: str
) -> None:
    async def work(connect: Open) -> Any:
        return await ask(connect, request_)

    got, answer = on_server(work)
    assert (got, message in answer["error"]) == (status, True), answer["error"]


def test_a_chunked_body_without_end_is_cut_off_at_the_limit(on_server: Any) -> None:
    async def work(connect: Open) -> Any:
        link = await connect()
        link.send(b"POST /v2/models/e/infer HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(30):
            link.send(b"400\r\n" + b"x" * 1024 + b"\r\n")
        return (await link.response())[0], await link.closed()

    assert on_server(work) == (413, True)


@pytest.mark.slow
def test_a_slow_request_is_ended_and_an_idle_connection_closed(on_server: Any) -> None:
    async def work(connect: Open) -> Any:
        slow, trickling, idle = await connect(), await connect(), await connect()
        request = post({"inputs": [tensor([1.0])]})
        slow.send(request[:-5])

        async def trickle() -> None:
            for at in range(len(request)):  # a byte now and then does not prolong the time that a request has
                trickling.send(request[at : at + 1])
                await asyncio.sleep(0.1)

        sending = asyncio.ensure_future(trickle())
        told = [(await link.response())[0] for link in (slow, trickling)]
        sending.cancel()
        return told, await slow.closed(), await idle.closed()

    assert on_server(work) == ([408, 408], True, True)


def test_one_connection_too_many_is_turned_away_and_the_others_go_on(on_server: Any) -> None:
    async def work(connect: Open) -> Any:
        links = [await connect() for _ in range(20)]
        await asyncio.sleep(0.05)
        extra = await connect()
        status, _, _ = await extra.response()
        links[0].send(get("/v2"))
        return status, (await links[0].response())[0]

    assert on_server(work) == (503, 200)


def test_connection_close_is_honoured(on_server: Any) -> None:
    async def work(connect: Open) -> Any:
        link = await connect()
        link.send(post({"inputs": [tensor([1.0])]}, headers="Connection: close\r\n"))
        status, headers, _ = await link.response()
        return status, headers["connection"], await link.closed()

    assert on_server(work) == (200, "close", True)


def test_a_server_that_ends_answers_the_next_request_of_a_busy_client_and_says_that_it_was_the_last(
    tmp_path: Path, adding: Any
) -> None:
    request = post({"inputs": [tensor([1.0])]})

    async def main() -> Any:
        made = Plane(tmp_path)
        made.serve((Variant("champion", "model:m@3", DIGEST), adding))
        server = HttpServer(App(made.plane, frozenset({b"127.0.0.1"})), HttpLimits(linger_s=30))
        port = await server.listen("127.0.0.1", 0)
        busy, begun = [Link(*await asyncio.open_connection("127.0.0.1", port)) for _ in range(2)]
        busy.send(request)
        first, _, _ = await busy.response()
        begun.send(request[:-5])
        await asyncio.sleep(0.1)
        draining = asyncio.create_task(server.drain(60))
        await asyncio.sleep(0.1)
        begun.send(request[-5:])
        busy.send(request)
        rest = [await link.response() for link in (busy, begun)]
        ends = [await link.closed() for link in (busy, begun)]
        await draining
        made.plane.close()
        return first, [(status, headers.get("connection")) for status, headers, _ in rest], ends

    assert uvloop.run(main()) == (200, [(200, "close")] * 2, [True, True])


def test_a_model_that_fails_is_a_fault_of_the_server(on_server: Any, tmp_path: Path) -> None:
    async def work(connect: Open) -> Any:
        return await ask(connect, post({"inputs": [tensor([7], datatype="INT64")]}))

    status, answer = on_server(work, bundle=failing_bundle(tmp_path / "failing"))
    assert (status, "the model failed" in answer["error"]) == (500, True)


def test_metadata_health_and_metrics_tell_what_is_served(on_server: Any) -> None:
    async def work(connect: Open) -> Any:
        link = await connect()
        link.send(post({"inputs": [tensor([1.0, 2.0])]}))
        await link.response()
        found = []
        for path in (
            "/v2/models/e",
            "/v2/models/e/versions/3/ready",
            "/v2/health/live",
            "/v2/health/ready",
            "/metrics",
        ):
            link.send(get(path))
            found.append(await link.response())
        return found

    model, ready, live, health, metrics = on_server(work)
    assert json.loads(model[2])["inputs"] == [{"name": "x", "datatype": "FP64", "shape": [-1]}]
    assert json.loads(ready[2])["ready"]
    assert json.loads(live[2])["live"]
    assert health[0] == 503, "this server was never told that it is ready"
    text = metrics[2].decode()
    assert 'loopwright_predictions_total{endpoint="e",variant="champion",version="3",outcome="ok"} 2' in text
    assert 'loopwright_requests_total{endpoint="e",status="200"} 1' in text
    assert 'loopwright_request_seconds_bucket{endpoint="e",le="+Inf"} 1' in text


def test_the_metrics_are_what_prometheus_reads(on_server: Any) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    async def work(connect: Open) -> bytes:
        link = await connect()
        link.send(post({"inputs": [tensor([1.0])]}))
        await link.response()
        link.send(get("/metrics"))
        return (await link.response())[2]

    families = {family.name: family for family in text_string_to_metric_families(on_server(work).decode())}
    assert families["loopwright_request_seconds"].type == "histogram"
    assert families["loopwright_predictions"].samples[0].value == 1
    assert families["process_resident_memory_bytes"].samples[0].value > 1e6


@settings(max_examples=examples(60), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.binary(max_size=200), min_size=1, max_size=5), st.booleans())
def test_random_bytes_never_stop_the_server(on_server: Any, parts: list[bytes], framed: bool) -> None:
    async def work(connect: Open) -> Any:
        noise = await connect()
        for part in parts:
            noise.send(post(part) if framed else part)
        noise.writer.write_eof()
        seen = await noise.reader.read()
        return seen, await ask(connect, post({"inputs": [tensor([1.0])]}))

    seen, (status, answer) = on_server(work)
    assert b"HTTP/1.1 5" not in seen
    assert (status, answer["outputs"][0]["data"]) == (200, [2.0])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
tensors = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["x", "y", ""]) | st.text(max_size=4),
        "shape": st.lists(st.integers(-2, 3) | st.integers(), max_size=3),
        "datatype": st.sampled_from(["FP32", "INT64", "BYTES", "BOOL", "?"]),
        "data": st.lists(json_values, max_size=4),
    }
)


@pytest.mark.slow
@settings(max_examples=examples(150), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(tensors, max_size=3), st.dictionaries(st.sampled_from(["key", "event_time", "z"]), json_values))
def test_any_shape_of_request_gets_an_answer_or_a_4xx(
    on_server: Any, inputs: list[Any], parameters: dict[str, Any]
) -> None:
    async def work(connect: Open) -> Any:
        return await ask(connect, post({"inputs": inputs, "parameters": parameters}))

    status, answer = on_server(work)
    assert status in (200, 400)
    assert status == 200 or answer["error"]
