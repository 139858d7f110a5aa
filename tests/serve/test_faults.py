"""Bad input and bad clients against a real process: it answers 4xx, goes on for the others, and does not grow."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.examples import examples
from tests.serve.conftest import Served, adding_bundle
from tests.serve.test_process import endpoint, wait_for

from loopwright.serve import InferenceProcess, Variant

pytestmark = [pytest.mark.fault, pytest.mark.slow]
BODY = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1.0]}]}'
MIB = 1 << 20
CLIENT = httpx.Client(trust_env=False)


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InferenceProcess]:
    """A process that adds 1 to `x`."""
    root = tmp_path_factory.mktemp("faults")
    served = Served(root)
    served.publish(endpoint(Variant("champion", "model:m@1", served.put(adding_bundle(1.0, root / "plus1")))))
    yield served.start()
    for running in served.processes:
        running.stop(timeout_s=5)


def port_of(process: InferenceProcess) -> int:
    return int(process.url.rpartition(":")[2])


def request(body: bytes = BODY, extra: bytes = b"", target: bytes = b"/v2/models/e/infer") -> bytes:
    return b"POST %b HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: %d\r\n%b\r\n%b" % (target, len(body), extra, body)


def connect(process: InferenceProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port_of(process)), timeout=60)


def statuses(data: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", data)]


def read_until_quiet(connection: socket.socket, quiet_s: float = 2.0) -> bytes:
    """All that comes until nothing has come for a while, or the other side has closed."""
    parts = []
    connection.settimeout(quiet_s)
    while True:
        try:
            part = connection.recv(1 << 16)
        except (TimeoutError, ConnectionResetError):
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts)


def answers(process: InferenceProcess) -> bool:
    return CLIENT.post(f"{process.url}/v2/models/e/infer", content=BODY, timeout=10).status_code == 200


def rss(process: InferenceProcess) -> int:
    return int(psutil.Process(process.pid).memory_info().rss)


def failures(process: InferenceProcess) -> float:
    """How many requests were answered with a fault of ours."""
    lines = CLIENT.get(f"{process.url}/metrics").text.splitlines()
    return sum(
        float(line.rpartition(" ")[2]) for line in lines if re.match(r'loopwright_requests_total.*"50[0-2]"', line)
    )


PIECES = [
    b"POST ", b"GET ", b"/v2/models/e/infer", b"/metrics", b" HTTP/1.1", b" HTTP/9", b"\r\n", b"\r\n\r\n", b"\n",
    b"content-length: 5", b"content-length: -1", b"content-length: 99999999999999999999", b"transfer-encoding: chunked",
    b"transfer-encoding: gzip, chunked", b"5\r\nhello\r\n", b"ffffffffffffffff\r\n", b"0\r\n\r\n", b"\x00", b"\xff\xfe",
    b"expect: 100-continue", b"upgrade: h2c", b"connection: upgrade", b"connection: close", b"host: x", b"a" * 300,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", BODY, b'{"inputs":', b": : :",
]  # fmt: skip


@given(data=st.binary(max_size=300) | st.lists(st.sampled_from(PIECES), max_size=14).map(b"".join))
@settings(max_examples=examples(300), suppress_health_check=list(HealthCheck))
def test_random_bytes_are_refused_and_never_a_fault(process: InferenceProcess, data: bytes) -> None:
    with connect(process) as connection:
        connection.sendall(data)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        told = statuses(read_until_quiet(connection, 2.0))
    assert all(status < 500 for status in told), (told, data)


@given(value=st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5), lambda inner: (
    st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["inputs", "name", "datatype", "shape", "data", "x"]),
                                                  inner, max_size=4)), max_leaves=12))  # fmt: skip
@settings(max_examples=examples(200), suppress_health_check=list(HealthCheck))
def test_any_json_is_answered_or_refused(process: InferenceProcess, value: object) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1], "data": value}
    for body in (value, {"inputs": value}, {"inputs": [tensor]}, {"inputs": [{**tensor, "shape": value, "data": [1]}]}):
        answer = CLIENT.post(f"{process.url}/v2/models/e/infer", content=json.dumps(body), timeout=10)
        assert answer.status_code in (200, 400), (answer.text, body)


def test_nothing_of_this_was_a_fault(process: InferenceProcess) -> None:
    assert answers(process)
    assert failures(process) == 0


def strange(number: int) -> bytes:
    """Nine requests that name what no other request named: models, inputs, paths, headers, keys, shapes, bytes."""
    own = b"%d" % number
    tensor = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[%b],"data":[%b]}]}'
    binary = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[%b],"parameters":{"binary_data_size":4}}]}' % own
    framed = b"inference-header-content-length: %d\r\n" % len(binary)
    return b"".join(
        [
            request(target=b"/v2/models/m%b/infer" % own),
            request(target=b"/endpoints/e/p%b" % own),
            request(BODY.replace(b'"x"', b'"x%b"' % own)),
            request(tensor % (b"2147483648", own)),
            request(tensor % (b"-" + own, own)),
            request(tensor % (b"1", b"1e%b" % (own if number > 400 else b"400"))),
            request(BODY[:-1] + b',"outputs":[{"name":"y%b"}]}' % own),
            request(binary + b"abc", b"x-%b: %b\r\n" % (own, own) + framed),
            request(BODY, b"loopwright-key: k%b\r\ntraceparent: %b\r\n" % (own, own)),
        ]
    )


def test_requests_that_are_never_the_same_do_not_make_the_process_grow(process: InferenceProcess) -> None:
    most, each = 600, 10

    def send(start: int) -> None:
        with connect(process) as connection:
            for number in range(start, start + most, each):
                connection.sendall(b"".join(strange(number + more) for more in range(each)))
                told = b""
                while len(statuses(told)) < 9 * each:
                    part = connection.recv(1 << 20)
                    assert part, told
                    told += part
                assert statuses(told) == [404, 404, 400, 400, 400, 400, 400, 400, 200] * each

    turns, grown = itertools.count(), list[int]()
    send(next(turns) * most)
    # Once may be the allocator, or a thread that has run for the first time: what is kept of requests grows each time.
    while len(grown) < 4 and min(grown, default=MIB * 3) >= 3 * MIB:
        before = rss(process)
        for _ in range(3):
            send(next(turns) * most)
        grown.append(rss(process) - before)
    assert min(grown) < 3 * MIB, f"{[round(size / MIB, 1) for size in grown]} MiB"
    assert failures(process) == 0
    assert len(CLIENT.get(f"{process.url}/metrics").content) < 50_000


def test_pipelined_and_chunked_requests_are_answered_in_order(process: InferenceProcess) -> None:
    chunked = (
        b"POST /v2/models/e/infer HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n\r\n"
        + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (BODY[:7], BODY[7:40], BODY[40:]))
        + b"0\r\n\r\n"
    )
    missing = request(target=b"/v2/models/none/infer")
    with connect(process) as connection:
        connection.sendall((request() + chunked + missing) * 40)
        told = b""
        while len(statuses(told)) < 120:
            told += connection.recv(1 << 16)
        assert statuses(told) == [200, 200, 404] * 40


def test_slow_clients_hold_up_nobody(process: InferenceProcess) -> None:
    """That each is given up in the end is proved with shorter limits in test_http.py."""
    slow = [connect(process) for _ in range(300)]
    try:
        for turn in range(4):
            for connection in slow:
                connection.sendall(b"POST /v2/mod"[turn * 3 : turn * 3 + 3])
            asked = time.monotonic()
            assert answers(process)
            assert time.monotonic() - asked < 10
    finally:
        for connection in slow:
            connection.close()


def test_a_body_of_a_hundred_megabytes_is_refused_and_not_kept(process: InferenceProcess) -> None:
    assert answers(process)
    before = rss(process)
    head = b"POST /v2/models/e/infer HTTP/1.1\r\nhost: 127.0.0.1\r\n"
    with connect(process) as connection:
        connection.sendall(head + b"content-length: %d\r\n\r\n" % (100 * MIB))
        assert statuses(read_until_quiet(connection)) == [413]
    for _ in range(2):
        with connect(process) as connection:
            connection.sendall(head + b"transfer-encoding: chunked\r\n\r\n")
            part = b"100000\r\n" + b"x" * MIB + b"\r\n"
            with contextlib.suppress(ConnectionError):
                for _ in range(100):
                    connection.sendall(part)
            # It closes while we still send, so what it told may be lost on the way.
            assert statuses(read_until_quiet(connection)) in ([413], [])
    assert answers(process)
    wait_for(lambda: rss(process) - before < 100 * MIB, 60)


def test_many_large_bodies_at_once_are_bounded(process: InferenceProcess) -> None:
    assert answers(process)
    before = rss(process)
    callers = [connect(process) for _ in range(12)]
    head = b"POST /v2/models/e/infer HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: %d\r\n\r\n" % (60 * MIB)
    most = 0
    for connection in callers:
        with contextlib.suppress(OSError):
            connection.sendall(head + b"x" * (40 * MIB))
        most = max(most, rss(process))
    refused = [caller for caller in callers if statuses(read_until_quiet(caller, 0.05)) == [503]]
    for connection in callers:
        connection.close()
    assert len(refused) >= 1
    assert most - before < 400 * MIB, f"{(most - before) / MIB:.0f} MiB"
    wait_for(lambda: answers(process), 60)


def test_ten_thousand_connections_are_held_and_one_more_is_told(process: InferenceProcess) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 12_000:
        pytest.skip("this user may have fewer than 12,000 descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 12_000), hard))
    before, held = rss(process), []
    try:
        with httpx.Client() as client:
            client.post(f"{process.url}/v2/models/e/infer", content=BODY)
            for _ in range(9_990):
                held.append(connect(process))
            asked = time.monotonic()
            assert client.post(f"{process.url}/v2/models/e/infer", content=BODY).status_code == 200
            assert time.monotonic() - asked < 10
            assert rss(process) - before < 200 * MIB
        for _ in range(20):
            held.append(connect(process))
        assert statuses(read_until_quiet(held[-1], 1.0)) == [503]
    finally:
        for connection in held:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    wait_for(lambda: answers(process), 60)


def test_a_client_that_reads_nothing_does_not_fill_the_memory(process: InferenceProcess, tmp_path: Path) -> None:
    before = rss(process)
    asked = request(target=b"/v2/models/e/infer") * 200
    with connect(process) as connection:
        connection.setblocking(False)
        for _ in range(400):
            with contextlib.suppress(BlockingIOError):
                connection.send(asked)
            time.sleep(0.002)
        assert rss(process) - before < 50 * MIB
        wait_for(lambda: answers(process), 60)  # what is beyond its strength is refused at once, and not for long
