"""The express lane answers as the usual way does, in order, whatever else arrives, and takes nothing else."""

from __future__ import annotations

import asyncio
import errno
import gc
import json
import os
import re
import socket
import struct
import subprocess
import sys
import time
import weakref
from collections.abc import Awaitable, Callable
from decimal import Context, Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from tests.examples import examples
from tests.serve.conftest import Plane
from tests.serve.test_v2_codec import FLOATS, codec

from loopwright.core import WITHOUT
from loopwright.models import Bundle, build_bundle
from loopwright.serve import LogPolicy, Variant, read_predictions
from loopwright.serve.admission import Limits
from loopwright.serve.block import Block
from loopwright.serve.rest import App, HttpServer
from loopwright.serve.rest.arrivals import Connection, PlainConnection

if Connection is PlainConnection:
    pytest.skip("the compiled part was not built: there is no C compiler here", allow_module_level=True)
from loopwright.serve.rest._express import read_rows

WIDTH = 2
CHAMPION = Variant("champion", "model:m@3", "0" * 64)


def weighing_bundle(folder: Path, factor: float = 10.0, *, choosy: bool = False) -> Bundle:
    """factor * a + b; a choosy one fails on rows whose `a` is not 0, 1 or 2."""
    nodes = [
        helper.make_node("Gather", ["features", "first"], ["left"], axis=1),
        helper.make_node("Gather", ["features", "second"], ["right"], axis=1),
        helper.make_node("Mul", ["left", "factor"], ["scaled"]),
        helper.make_node("Add", ["scaled", "right"], ["plain"]),
    ]
    if choosy:
        nodes += [
            helper.make_node("Cast", ["left"], ["place"], to=TensorProto.INT64),
            helper.make_node("Gather", ["zeros", "place"], ["nothing"]),
            helper.make_node("Add", ["plain", "nothing"], ["value"]),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["plain"], ["value"]))
    constants = [
        helper.make_tensor("first", TensorProto.INT64, [], [0]),
        helper.make_tensor("second", TensorProto.INT64, [], [1]),
        helper.make_tensor("factor", TensorProto.FLOAT, [], [factor]),
        helper.make_tensor("zeros", TensorProto.FLOAT, [3], [0.0, 0.0, 0.0]),
    ]
    graph = helper.make_graph(
        nodes,
        "weighing",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, WIDTH])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, [None])],
        constants if choosy else constants[:-1],
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return build_bundle(model, pl.DataFrame({"a": [1.0, 2.0], "b": [0.5, 0.25]}), folder=folder)


@pytest.fixture(scope="module")
def weighing(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return weighing_bundle(tmp_path_factory.mktemp("weighing") / "bundle")


# A machine that pauses in the middle of a run is no reason to refuse what follows.
UNHURRIED = Limits(turn_s=60.0, patience_s=60.0, burst_s=60.0)


class Wire:
    """The other end of a connection, without a network."""

    def __init__(self) -> None:
        self.sent = b""
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.sent += data

    def close(self) -> None:
        self.is_closed = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def get_extra_info(self, _name: str) -> None:
        return None

    def answers(self) -> list[tuple[int, Any]]:
        """Status and body of each response, in order."""
        found, rest = [], self.sent
        while rest:
            head, _, rest = rest.partition(b"\r\n\r\n")
            size = int(re.search(rb"content-length: (\d+)", head)[1])  # type: ignore[index]
            found.append((int(head.split()[1]), json.loads(rest[:size])))
            rest = rest[size:]
        return found


class House:
    """A server with connections to it."""

    def __init__(self, made: Plane) -> None:
        self.made = made
        self.server = HttpServer(App(made.plane))
        self._start = self.server.start()

    def connect(self) -> tuple[Any, Wire]:
        connection, wire = self._start(), Wire()
        connection.connection_made(wire)  # type: ignore[arg-type]  # enough of a transport
        return connection, wire

    async def settle(self) -> None:
        for _ in range(6):
            await asyncio.sleep(0)

    async def primed(self) -> tuple[Any, Wire]:
        """A connection behind a first request, which shows the way to those with its head."""
        connection, wire = self.connect()
        connection.data_received(ask([[0.0, 0.0]]))
        await self.settle()
        assert [status for status, _ in wire.answers()] == [200]
        wire.sent = b""
        return connection, wire


def at_home(work: Callable[[House], Awaitable[Any]], made: Plane) -> Any:
    async def main() -> Any:
        house = House(made)
        try:
            return await asyncio.wait_for(work(house), 30)
        finally:
            await house.server.drain(0)

    return asyncio.run(main())


def body_of(rows: list[list[float]], **more: Any) -> bytes:
    data = [value for row in rows for value in row]
    tensor = {"name": "features", "shape": [len(rows), WIDTH], "datatype": "FP64", "data": data}
    return json.dumps({"inputs": [tensor], **more}).encode()


def post(body: bytes, headers: bytes = b"") -> bytes:
    line = b"POST /v2/models/e/infer HTTP/1.1\r\nhost: 127.0.0.1\r\n%bcontent-length: %d\r\n\r\n"
    return line % (headers, len(body)) + body


def ask(rows: list[list[float]], **more: Any) -> bytes:
    """Padded, so that requests with one to four rows have the same head."""
    return post(body_of(rows, **more).ljust(600))


# --- numbers


def near_halfway(odd: int, power: int, digits: int) -> str:
    """A number between two doubles, to the last digit or cut before it: the hardest to round."""
    exact = Fraction(odd | 1 | 1 << 53) * Fraction(2) ** power
    return str(Context(prec=digits).divide(Decimal(exact.numerator), Decimal(exact.denominator)))


written_numbers = st.one_of(
    st.floats(-3e38, 3e38).map(repr),
    st.floats(-1e9, 1e9, width=32).map(repr),
    st.integers(-(10**25), 10**25).map(str),
    st.tuples(st.integers(0, 10**22), st.integers(0, 10**22), st.integers(-60, 15)).map(
        lambda n: f"{n[0]}.{n[1]:05d}e{n[2]}"
    ),
    st.tuples(st.integers(0, 9), st.text("0123456789", min_size=1, max_size=40)).map(lambda n: f"-{n[0]}.{n[1]}"),
    st.sampled_from(
        ["18446744073709551616", "184467440737095516160", "9007199254740993", "0.1e1", "-0", "5e-324", "0E5"]
    ),
    st.builds(near_halfway, st.integers(0, 1 << 53), st.integers(-180, 70), st.sampled_from([16, 17, 18, 19, 20, 60])),
    st.tuples(st.integers(0, 10**19), st.integers(-75, 22)).map(lambda n: f"{n[0]}e{n[1]}"),
    st.sampled_from(["1.7976931348623157e30", "9007199254740992.5", "0." + "0" * 400 + "1", "2.2250738585072011e-308"]),
)


@settings(max_examples=examples(900), deadline=None)
@given(st.lists(written_numbers, min_size=1, max_size=6), st.text(" \n\t\r", max_size=3), st.permutations(range(4)))
def test_numbers_are_read_as_python_reads_them(numbers: list[str], space: str, order: list[int]) -> None:
    members = [
        f'"name":{space}"x"',
        f'"shape":[1{space},{len(numbers)}{space}]',
        '"datatype":"FP64"',
        f'"data":{space}[{space}{f"{space},".join(numbers)}{space}]',
    ]
    body = f'{space}{{"inputs"{space}:[{{{f",{space}".join(members[at] for at in order)}}}]{space}}}{space}'
    expected = np.array([float(number) for number in numbers])
    found = read_rows(body.encode(), len(numbers))
    if np.abs(expected).max() >= 3.4e38:
        assert found is None
    else:
        assert found == expected.tobytes(), numbers


mutated = st.tuples(
    st.lists(st.tuples(st.integers(0, 200), st.binary(max_size=3), st.integers(0, 4)), min_size=1, max_size=3),
    st.sampled_from([1, 2]),
)


@settings(max_examples=examples(900), deadline=None)
@given(mutated)
def test_nothing_is_taken_that_the_usual_way_refuses_or_reads_otherwise(given_: Any) -> None:
    edits, rows = given_
    body = bytearray(
        b'{"inputs":[{"name":"x","shape":[%d,2],"datatype":"FP32","data":[1.5,-2%b]}]}'
        % (rows, b",3e2,0.25" * (rows - 1))
    )
    for at, new, gone in edits:
        at = at % (len(body) + 1)
        body[at : at + gone] = new
    found = read_rows(bytes(body), 2)
    if found is None:
        return
    request, block = codec(FLOATS).read(bytes(body))
    assert isinstance(block, Block)
    assert (request.id, request.parameters, request.outputs) == ("", None, None)
    assert np.array_equal(np.frombuffer(found).reshape(-1, 2), block.matrix)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2',
        b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,12345678901234567890123',
        b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[]}]}',
        b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2,]}]}',
        b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,null]}]}',
        b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[[1,2]]}]}',
        b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,01]}]}',
        b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,.5]}]}',
        b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,5.]}]}',
        b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,+5]}]}',
        b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,1e400]}]}',
        b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,NaN]}]}',
        b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}]}',
        b'{"inputs":[{"name":"x","shape":[-1,2],"datatype":"FP32","data":[1,2]}]}',
        b'{"inputs":[{"name":"x","shape":[9999999999999999999999,2],"datatype":"FP32","data":[1,2]}]}',
        b'{"inputs":[{"name":"x","shape":[2],"datatype":"FP32","data":[1,2]}]}',
        b'{"inputs":[{"name":"x","name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}',
        b'{"inputs":[{"name":"\\u0078","shape":[1,2],"datatype":"FP32","data":[1,2]}]}',
        b'{"inputs":[{"name":"\xff","shape":[1,2],"datatype":"FP32","data":[1,2]}]}',
        b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"BYTES","data":[1,2]}]}',
        b'{"inputs":[{"name":"x","shape":[1,2],"data":[1,2]}]}',
        b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}],"id":"q"}',
        b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]} x',
    ],
)
def test_any_other_form_is_left_to_the_usual_way(body: bytes) -> None:
    assert read_rows(body, 2) is None


# --- answers


def without_ids(answer: Any) -> Any:
    parameters = dict(answer["parameters"])
    ids = parameters.pop("prediction_ids")
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in ids)
    return {**answer, "parameters": {**parameters, "count": len(set(ids))}}


def test_an_answer_is_the_same_on_either_way(make_plane: Any, weighing: Bundle) -> None:
    made = make_plane(limits=UNHURRIED)
    made.serve((CHAMPION, weighing))
    rows = [[1.25, -3.0], [0.1, 1e-7], [7.0, 1 / 3]]

    async def work(house: House) -> Any:
        usual, usual_wire = house.connect()
        usual.data_received(ask(rows, id=""))  # a member more, which the lane does not take
        await house.settle()
        connection, wire = await house.primed()
        connection.data_received(ask(rows))
        was_taken = connection.under_way
        await house.settle()
        return was_taken, usual_wire.answers(), wire.answers()

    was_taken, usual, express = at_home(work, made)
    assert was_taken == 1
    assert [(status, without_ids(answer)) for status, answer in express] == [
        (status, without_ids(answer)) for status, answer in usual
    ]
    assert express[0][1]["outputs"][0]["data"] == pytest.approx([9.5, 1.0000001, 70.33333], rel=1e-6)


def test_what_was_answered_is_in_the_log_request_by_request(make_plane: Any, weighing: Bundle) -> None:
    made = make_plane(limits=UNHURRIED)
    made.serve((CHAMPION, weighing))
    asked = [[[1.0, 0.5]], [[2.0, 0.1], [3.0, 0.2]], [[4.0, 0.3]]]

    async def work(house: House) -> Any:
        links = [await house.primed() for _ in asked]
        for (connection, _), rows in zip(links, asked, strict=True):
            connection.data_received(ask(rows))
            await asyncio.sleep(0) if rows is asked[0] else None
        await house.settle()
        return [wire.answers()[0][1]["parameters"]["prediction_ids"] for _, wire in links]

    ids = at_home(work, made)
    logged = {one.id: one for one in read_predictions(made.folder / "journal")[0]}
    found = [[list(logged[one].features) for one in mine] for mine in ids]
    assert found == asked
    for one in logged.values():
        assert abs(one.received_at - one.event_time) == 0
        assert 0 <= one.latency_us < 5_000_000
    assert made.metrics.requests["e", 200] == 3 + 3
    assert sum(made.metrics.latency["e"].counts) == 6
    assert made.metrics.predictions["e", "champion", "3", "ok"] == 3 + 4
    assert made.metrics.queued_rows == 0


def test_sampling_and_dropping_hold_on_the_lane(make_plane: Any, weighing: Bundle) -> None:
    made = make_plane(limits=UNHURRIED)
    made.serve((CHAMPION, weighing), log=LogPolicy(sample=0.0, drop=("a",)))

    async def work(house: House) -> Any:
        connection, wire = await house.primed()
        connection.data_received(ask([[1.0, 0.5], [2.0, 0.5]]))
        assert connection.under_way == 1
        await house.settle()
        return wire.answers()

    [(status, answer)] = at_home(work, made)
    assert (status, answer["parameters"]["prediction_ids"]) == (200, ["", ""])
    assert read_predictions(made.folder / "journal")[0] == []


kinds = st.sampled_from(["lane", "lane", "lane", "binary", "binary", "id", "bad", "get", "chunked", "large"])


def made_request(kind: str, number: int) -> tuple[bytes, int, float | None]:
    """A request, its status, and the first value of its answer."""
    value = float(number)
    if kind == "id":
        return ask([[value, 0.5]], id="q"), 200, value * 10 + 0.5
    if kind == "binary":
        body = body_of([[0.0, 0.0]]).replace(b'"data": [0.0, 0.0]', b'"parameters": {"binary_data_size": 16}')
        header = b"inference-header-content-length: %d\r\n" % len(body)
        return post(body + struct.pack("<2d", value, 0.5), header), 200, value * 10 + 0.5
    if kind == "bad":
        return post(body_of([[value, 0.5]])[:-1].ljust(600)), 400, None
    if kind == "get":
        return b"GET /v2 HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", 200, None
    if kind == "chunked":
        body = body_of([[value, 0.5]])
        head = b"POST /v2/models/e/infer HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n\r\n"
        return head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body), 200, value * 10 + 0.5
    rows = 300 if kind == "large" else 1 + number % 4
    body = body_of([[value, 0.5]] * rows)
    return post(body if kind == "large" else body.ljust(600)), 200, value * 10 + 0.5


@pytest.mark.slow
@settings(max_examples=examples(40), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.lists(kinds, min_size=1, max_size=8), min_size=1, max_size=3), st.data())
def test_answers_come_in_the_order_of_requests_however_they_arrive(
    tmp_path: Path, weighing: Bundle, plans: list[list[str]], data: st.DataObject
) -> None:
    made = Plane(tmp_path, Limits(gathered_requests=2))
    made.serve((CHAMPION, weighing))
    wanted = [[made_request(kind, number) for number, kind in enumerate(plan)] for plan in plans]

    async def work(house: House) -> Any:
        links = [await house.primed() for _ in plans]
        streams = [b"".join(request for request, _, _ in mine) for mine in wanted]
        while any(streams):
            at = data.draw(st.sampled_from([number for number, left in enumerate(streams) if left]))
            size = data.draw(st.sampled_from([1, 50, 700, 1500, 4000, 1 << 20]))
            links[at][0].data_received(streams[at][:size])
            streams[at] = streams[at][size:]
            if data.draw(st.booleans()):
                await asyncio.sleep(0)
        for _ in range(20):
            await house.settle()
        return [wire.answers() for _, wire in links], [connection.under_way for connection, _ in links]

    found, left = at_home(work, made)
    made.log.close()
    assert left == [0] * len(plans)
    for answers, mine in zip(found, wanted, strict=True):
        assert [status for status, _ in answers] == [status for _, status, _ in mine]
        for (_, answer), (_, _, value) in zip(answers, mine, strict=True):
            if value is not None:
                assert answer["outputs"][0]["data"][0] == pytest.approx(value)


def test_a_model_that_fails_on_one_request_answers_the_others(make_plane: Any, tmp_path: Path) -> None:
    made = make_plane(limits=UNHURRIED)
    made.serve((CHAMPION, weighing_bundle(tmp_path / "choosy", choosy=True)))

    async def work(house: House) -> Any:
        links = [await house.primed() for _ in range(3)]
        for (connection, _), value in zip(links, (1.0, 7.0, 2.0), strict=True):
            connection.data_received(ask([[value, 0.5]]))
        await house.settle()
        return [wire.answers()[0] for _, wire in links]

    first, second, third = at_home(work, made)
    assert [first[1]["outputs"][0]["data"], third[1]["outputs"][0]["data"]] == [[10.5], [20.5]]
    assert (second[0], "the model failed" in second[1]["error"]) == (500, True)
    assert made.metrics.queued_rows == 0
    assert made.metrics.requests["e", 500] == 1


def test_a_model_put_in_its_place_answers_at_once_and_the_old_one_leaves_memory(
    make_plane: Any, weighing: Bundle, tmp_path: Path
) -> None:
    made = make_plane(limits=UNHURRIED)
    old = weakref.ref(made.serve((CHAMPION, weighing)))

    async def work(house: House) -> Any:
        connection, wire = await house.primed()
        connection.data_received(ask([[1.0, 0.5]]))
        made.serve((CHAMPION, weighing_bundle(tmp_path / "other", factor=100.0)))
        connection.data_received(ask([[1.0, 0.5]]))
        await house.settle()
        connection.data_received(ask([[2.0, 0.5]]))
        was_taken = connection.under_way
        await house.settle()
        gc.collect()
        return wire.answers(), was_taken, old()

    answers, was_taken, left = at_home(work, made)
    assert [answer["outputs"][0]["data"] for _, answer in answers] == [[10.5], [100.5], [200.5]]
    assert was_taken == 1, "the new model has a lane, too"
    assert left is None


def test_what_there_is_no_time_for_is_refused_and_counted(make_plane: Any, weighing: Bundle) -> None:
    made = make_plane(limits=Limits(turn_requests=2, turn_s=0.0, burst_s=0.0, worth_s=0.0))
    made.serve((CHAMPION, weighing))

    async def work(house: House) -> Any:
        links = [await house.primed() for _ in range(5)]
        for connection, _ in links:
            connection.data_received(ask([[1.0, 0.5]]))
        await house.settle()
        return [wire.answers()[0][0] for _, wire in links]

    assert at_home(work, made) == [200, 200, 503, 503, 503]
    assert (made.metrics.shed, made.metrics.requests["", 503]) == (3, 3)


@pytest.mark.parametrize(("reading_s", "last"), [(60.0, 200), (0.25, 503)])
def test_answers_are_given_between_refusals_and_few_are_taken_in_a_long_turn(
    make_plane: Any, weighing: Bundle, reading_s: float, last: int
) -> None:
    made = make_plane(
        limits=Limits(
            turn_requests=2,
            turn_s=0.0,
            burst_s=0.0,
            worth_s=0.0,
            shed_s=0.25,
            slice_s=60.0,
            calm_s=60.0,
            overload_s=60.0,
            reading_s=reading_s,
        )
    )
    made.serve((CHAMPION, weighing))

    async def work(house: House) -> Any:
        links = [await house.primed() for _ in range(8)]
        for number, (connection, _) in enumerate(links[:6]):
            if number == 4:
                time.sleep(0.3)  # without a turn of the loop
            connection.data_received(ask([[1.0, 0.5]]))
        at_once = [wire.answers()[0][0] for _, wire in links[:4]]
        await house.settle()
        for connection, _ in links[6:]:
            connection.data_received(ask([[1.0, 0.5]]))
        await house.settle()
        return at_once, [wire.answers()[0][0] for _, wire in links]

    at_once, after = at_home(work, made)
    assert at_once == [200, 200, 503, 503], "some are answered before the turn is over"
    assert after[4:6] == [200, last], "who finds nobody waiting is taken all the same"
    assert after[6:] == [200, 200], "the next turn has just begun"


def test_no_more_rows_wait_in_the_lane_than_may_wait_at_all(make_plane: Any, weighing: Bundle) -> None:
    made = make_plane(limits=Limits(queue_rows=5))
    made.serve((CHAMPION, weighing))

    async def work(house: House) -> Any:
        links = [await house.primed() for _ in range(4)]
        for connection, _ in links:
            connection.data_received(ask([[1.0, 0.5]] * 2))
        taken = [connection.under_way for connection, _ in links]
        await house.settle()
        return taken, sorted(wire.answers()[0][0] for _, wire in links)

    assert at_home(work, made) == ([1, 1, 0, 0], [200, 200, 503, 503])


def test_answers_keep_their_order_when_a_client_takes_them_later_than_they_are_made(
    make_plane: Any, weighing: Bundle
) -> None:
    made = make_plane(limits=UNHURRIED)
    made.serve((CHAMPION, weighing))
    count, rows = 60, 100

    async def work(house: House) -> Any:
        port = await house.server.listen("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4096)  # reads little ahead
        requests = [post(body_of([[float(number), 0.5]] * rows)) for number in range(count)]
        writer.write(requests[0])
        found = [await _answer_from(reader)]
        (connection,) = house.server._connections
        transport: Any = connection._transport
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        writer.write(b"".join(requests[1:]))
        while not transport.get_write_buffer_size():  # the system takes no more
            await asyncio.sleep(0.001)
        was_direct = connection._socket
        found += [await _answer_from(reader) for _ in range(count - 1)]
        writer.close()
        return found, was_direct

    found, was_direct = at_home(work, made)
    assert was_direct, "answers go to the system at once while it takes them"
    assert [answer["outputs"][0]["data"] for answer in found] == [
        [10.0 * number + 0.5] * rows for number in range(count)
    ]


async def _answer_from(reader: asyncio.StreamReader) -> Any:
    head = await reader.readuntil(b"\r\n\r\n")
    return json.loads(await reader.readexactly(int(re.search(rb"content-length: (\d+)", head)[1])))  # type: ignore[index]


def test_clients_that_leave_and_a_server_that_ends_lose_nobody_else(make_plane: Any, weighing: Bundle) -> None:
    made = make_plane(limits=UNHURRIED)
    made.serve((CHAMPION, weighing))

    async def work(house: House) -> Any:
        (leaving, gone), (connection, wire), (half, half_wire), (last, last_wire) = [
            await house.primed() for _ in range(4)
        ]
        draining = asyncio.create_task(house.server.drain(20))  # begins while all have requests in the lane
        for one in (leaving, connection, half):
            one.data_received(ask([[1.0, 0.5]]) + ask([[2.0, 0.5]], id="held back"))
        last.data_received(ask([[1.0, 0.5]]))
        leaving.connection_lost(None)
        assert half.eof_received(), "its answers are still to be sent"
        for _ in range(1000):  # the last one lingers for its client's next request
            closed = [one.is_closed for one in (wire, half_wire, last_wire)]
            if all(closed):
                break
            await asyncio.sleep(0.01)
        for one in (connection, half, last):
            one.connection_lost(None)
        await draining
        return gone.sent, [len(one.answers()) for one in (wire, half_wire, last_wire)], closed, made.plane.idle

    assert at_home(work, made) == (b"", [2, 2, 1], [True] * 3, True)


@pytest.mark.slow
def test_a_process_without_the_compiled_part_answers_alike(weighing: Bundle, tmp_path: Path) -> None:
    script = (
        "import sys; sys.argv[1:1] = ['-q', '-x', '-p', 'no:cacheprovider'];"
        "from loopwright.serve.rest.arrivals import Connection, PlainConnection; assert Connection is PlainConnection;"
        "import pytest; sys.exit(pytest.main(sys.argv[1:]))"
    )
    chosen = ["tests/serve/test_http.py", "-k", "pipelined or pieces or form", "--override-ini=addopts="]
    done = subprocess.run(
        [sys.executable, "-c", script, *chosen, "--import-mode=importlib", f"--basetemp={tmp_path / 'inner'}"],
        env={**os.environ, WITHOUT: "1"},
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert " passed" in done.stdout


def test_the_marks_of_a_template_stand_in_no_name(make_plane: Any, weighing: Bundle) -> None:
    made = make_plane(limits=UNHURRIED)
    made.serve((Variant("cham\x01pion\x02", "model:m@3", "0" * 64), weighing))

    async def work(house: House) -> Any:
        connection, wire = await house.primed()
        connection.data_received(ask([[1.0, 0.5]]))
        await house.settle()
        return wire.answers()

    [(status, answer)] = at_home(work, made)
    assert (status, answer["parameters"]["variant"]) == (200, "cham\x01pion\x02")


@pytest.mark.parametrize("fails", [False, True], ids=["kept", "unlogged"])
def test_what_is_answered_at_once_is_counted_and_logged_as_by_the_usual_way(
    tmp_path: Path, weighing: Bundle, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    asked = [[[1.0, 0.5]], [[2.0, 0.5], [3.0, 1e-3]], [[4.0, -0.5]] * 40]

    def told(is_usual: bool) -> tuple[Any, ...]:
        made = Plane(tmp_path / str(is_usual), UNHURRIED)
        made.serve((CHAMPION, weighing))
        runs: list[int] = []
        noted: list[str] = []
        made.plane.note = noted.append
        if is_usual:
            made.plane.wrap_runs(lambda run: lambda *asked: runs.append(1) or run(*asked))

        async def work(house: House) -> Any:
            links = [await house.primed() for _ in asked]
            if fails:
                monkeypatch.setattr(os, "write", full)
            for (connection, _), rows in zip(links, asked, strict=True):
                connection.data_received(ask(rows))
            await house.settle()
            monkeypatch.undo()
            return [wire.answers()[0] for _, wire in links]

        answers = at_home(work, made)
        made.log.close()
        assert len(noted) > 2
        assert all(noted[::2])
        assert not any(noted[1::2])
        ids = [answer["parameters"].pop("prediction_ids") for _, answer in answers]
        logged = {one.id: one for one in read_predictions(made.folder / "journal")[0]}
        assert [len(mine) for mine in ids] == [len(rows) for rows in asked]
        assert all((one == "") is fails and (fails or one in logged) for mine in ids for one in mine)
        assert len(logged) == 3 + (0 if fails else 43)
        rows = [(one.model, one.variant, one.key, one.columns, one.features, one.outputs) for one in logged.values()]
        metrics, ran = made.metrics, made.metrics.runs.versions["e", "3"]
        counts = dict(metrics.requests), dict(metrics.predictions), metrics.batch.counts, metrics.unlogged
        assert bool(runs) is is_usual
        assert ran.times.infer_ns > 0 < ran.queue_ns < ran.success_ns < 60_000_000_000
        assert metrics.latency["e"].total > 0
        return answers, rows, counts, sum(metrics.latency["e"].counts), ran.runs, ran.times.count, sorted(ran.by_rows)

    assert told(is_usual=False) == told(is_usual=True)


def full(_descriptor: int, _data: bytes) -> int:
    """A disk without room."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
