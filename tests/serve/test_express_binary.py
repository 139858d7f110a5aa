"""The express lane answers requests with binary tensors as the usual way does, and takes nothing else."""

from __future__ import annotations

import json
import re
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from tests.examples import examples
from tests.serve.conftest import Plane
from tests.serve.test_express import CHAMPION, UNHURRIED, House, Wire, at_home, body_of, post

from loopwright.models import Bundle, build_bundle
from loopwright.serve import read_predictions
from loopwright.serve.rest.http import WatchedExchange

KINDS = {
    "FP32": "f", "FP64": "d", "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q", "UINT8": "B", "UINT16": "H",
    "UINT32": "I", "UINT64": "Q",
}  # fmt: skip


def two_outputs(folder: Path) -> Bundle:
    """`value` is 10 a + b, `place` is a as a whole number."""
    nodes = [
        helper.make_node("Gather", ["features", "first"], ["left"], axis=1),
        helper.make_node("Gather", ["features", "second"], ["right"], axis=1),
        helper.make_node("Mul", ["left", "factor"], ["scaled"]),
        helper.make_node("Add", ["scaled", "right"], ["value"]),
        helper.make_node("Cast", ["left"], ["place"], to=TensorProto.INT64),
    ]
    constants = [
        helper.make_tensor("first", TensorProto.INT64, [], [0]),
        helper.make_tensor("second", TensorProto.INT64, [], [1]),
        helper.make_tensor("factor", TensorProto.FLOAT, [], [10.0]),
    ]
    outputs = [("value", TensorProto.FLOAT), ("place", TensorProto.INT64)]
    graph = helper.make_graph(
        nodes,
        "weighing",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, 2])],
        [helper.make_tensor_value_info(name, dtype, [None]) for name, dtype in outputs],
        constants,
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return build_bundle(model, pl.DataFrame({"a": [1.0, 2.0], "b": [0.5, 0.25]}), folder=folder)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return two_outputs(tmp_path_factory.mktemp("two") / "bundle")


def binary(
    raw: bytes, rows: int, datatype: str = "FP32", size: int | None = None, header: Any = None, **more: Any
) -> bytes:
    """A request with raw bytes behind its JSON."""
    sizes = {"binary_data_size": len(raw) if size is None else size}
    tensor = {"name": "features", "shape": [rows, 2], "datatype": datatype, "parameters": sizes}
    text = json.dumps({"inputs": [tensor], **more}).encode()
    told = len(text) if header is None else header(len(text))
    return post(text + raw, b"inference-header-content-length: %b\r\n" % str(told).encode())


def packed(values: list[float], datatype: str) -> bytes:
    return struct.pack(f"<{len(values)}{KINDS[datatype]}", *values)


answers_wanted = st.sampled_from(
    [
        {},
        {"parameters": {"binary_data_output": True}},
        {"parameters": {"binary_data_output": False, "other": 1}},
        {"outputs": [{"name": "place", "parameters": {"binary_data": True}}]},
        {"outputs": [{"name": "place"}, {"name": "value", "parameters": {"binary_data": True}}]},
        {
            "outputs": [{"name": "value", "parameters": {"binary_data": False}}],
            "parameters": {"binary_data_output": True},
        },
        {"outputs": [{"name": "place"}, {"name": "value"}]},
        {"outputs": []},
    ]
)
BIGGEST = {"b": 127, "h": 32767, "i": 1 << 30, "q": (1 << 53) + 1, "B": 255, "H": 65535, "I": (1 << 32) - 1}
plain_values = st.tuples(st.sampled_from(sorted(KINDS)), st.integers(1, 3), st.randoms(use_true_random=False)).map(
    lambda n: (n[0], n[1], [n[2].choice([0, 1, 5, BIGGEST.get(KINDS[n[0]], 1 << 53)]) for _ in range(2 * n[1])])
)
plain = st.builds(
    lambda given_, more: [("plain", binary(packed(given_[2], given_[0]), given_[1], given_[0], **more))],
    plain_values,
    answers_wanted,
)
EXTREMES = [1.5, -0.0, 3.3e38, -3.4e38, 3.4028234e38, float("nan"), float("inf"), 1e-40]
extreme = st.builds(  # behind a request with the same JSON
    lambda values, kind, more: [
        ("plain", binary(packed([1.0, 2.0], kind), 1, kind, **more)),
        ("any", binary(packed(values, kind), 1, kind, **more)),
    ],
    st.lists(st.sampled_from(EXTREMES), min_size=2, max_size=2),
    st.sampled_from(["FP32", "FP64"]),
    answers_wanted,
)
RAW = struct.pack("<4f", 1.0, 0.5, 2.0, 0.25)
MISLEADING: list[bytes] = [
    binary(RAW[:-1], 2, size=16),
    binary(RAW[:-1], 2),
    binary(RAW + b"x", 2, size=16),
    binary(RAW, 3),
    binary(RAW, 2, size=8),
    binary(RAW, 2, size=-16),
    binary(RAW, -2),
    binary(RAW, 0),
    binary(b"", 0),
    binary(RAW, 2, header=lambda size: size + len(RAW) + 1),
    binary(RAW, 2, header=lambda size: size - 1),
    binary(RAW, 2, header=lambda size: size + 1),
    binary(RAW, 2, header=lambda size: f"-{size}"),
    binary(RAW, 2, header=lambda _: 0),
    binary(RAW, 2, header=lambda _: "many"),
    binary(RAW, 2, "FP64"),
    binary(RAW, 2, "FP16"),
    binary(RAW, 2, "BOOL"),
    binary(RAW, 2, "FP31"),
    binary(RAW, 2, id="q"),
    binary(RAW, 2, outputs=[{"name": "other"}]),
    binary(RAW, 2, outputs=[{"name": "value"}] * 2),
    binary(RAW, 2, parameters={"key": "k", "binary_data_output": True}),
    binary(RAW, 2, parameters={"timeout": -1}),
    binary(RAW, 2, inputs=[{"name": "features", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}]),
    binary(RAW * 300, 600, parameters={"binary_data_output": True}),
    post(body_of([[1.0, 0.5]]), b"inference-header-content-length: %d\r\n" % len(body_of([[1.0, 0.5]]))),
]
in_json = st.just([("any", post(body_of([[4.0, 0.5]])))])
misleading = st.sampled_from(MISLEADING).map(lambda request: [("any", request)])


def parts_of(wire: Wire) -> list[Any]:
    """Each response: its status, its headers, its JSON without ids, what is behind that; and its ids."""
    found, rest = [], wire.sent
    while rest:
        head, _, rest = rest.partition(b"\r\n\r\n")
        size = int(re.search(rb"content-length: (\d+)", head)[1])  # type: ignore[index]
        text = int(told[1]) if (told := re.search(rb"inference-header-content-length: (\d+)", head)) else size
        answer, tail = json.loads(rest[:text]), rest[text:size]
        ids = answer.get("parameters", {}).pop("prediction_ids", [])
        assert len(set(ids)) == len(ids), "no id is given twice"
        found.append((head, answer, tail, ids))
        rest = rest[size:]
    return found


async def answered(house: House, requests: list[bytes], cut: int) -> tuple[list[Any], list[int]]:
    """The responses to requests, of which each is sent twice, the second time together with the others."""
    taken, wires = [], []
    for request in requests:
        connection, wire = house.connect()
        connection.data_received(request)
        await house.settle()
        wires.append((connection, wire))
    for (connection, _), request in zip(wires, requests, strict=True):
        for piece in (request[:cut], request[cut:]) if cut else (request,):
            connection.data_received(piece)
        taken.append(connection.under_way)
    await house.settle()
    await house.settle()
    return [parts_of(wire) for _, wire in wires], taken


def logged(made: Plane, answers: list[Any]) -> tuple[list[Any], int]:
    """What the log says of each response's rows, and how many others it has: for those the answer was refused."""
    by_id = {one.id: one for one in read_predictions(made.folder / "journal")[0]}
    told = [[by_id.pop(one) for one in ids] for response in answers for *_, ids in response]
    known = [[(one.features, one.outputs, one.variant, one.key, one.status) for one in rows] for rows in told]
    return known, len(by_id)


@settings(max_examples=examples(30), deadline=None)
@given(
    st.lists(st.one_of(plain, plain, extreme, misleading, in_json), min_size=1, max_size=8),
    st.sampled_from([0, 0, 9, 400]),
)
def test_binary_requests_are_answered_as_on_the_usual_way(
    two: Bundle, plans: list[list[tuple[str, bytes]]], cut: int
) -> None:
    plan = [one for these in plans for one in these]
    requests = [request for _, request in plan]
    seen = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("express", "usual"):
            made = Plane(Path(folder) / name, UNHURRIED)
            made.serve((CHAMPION, two))

            async def work(house: House, is_usual: bool = name == "usual") -> Any:
                if is_usual:
                    house.server.exchange = WatchedExchange  # which have no lane
                return await answered(house, requests, cut)

            answers, taken = at_home(work, made)
            made.log.close()
            metrics = made.metrics
            counts = dict(metrics.requests), dict(metrics.predictions), sum(metrics.latency["e"].counts)
            told = [[response[:3] for response in mine] for mine in answers]
            seen.append((told, logged(made, answers), counts, metrics.queued_rows))
            if name == "usual":
                assert not any(taken)
            elif not cut:
                assert all(taken[at] for at, (kind, _) in enumerate(plan) if kind == "plain"), "these are for the lane"
    assert seen[0] == seen[1]


@pytest.mark.parametrize("request_", MISLEADING)
def test_what_misleads_is_never_taken(make_plane: Any, two: Bundle, request_: bytes) -> None:
    made = make_plane(limits=UNHURRIED)
    made.serve((CHAMPION, two))
    longer = RAW + RAW[:8]

    async def work(house: House) -> Any:
        # the last two have the head of the second, and JSON of the first or of their own
        known = [binary(RAW, 2), binary(longer, 3), binary(longer, 2, size=16), binary(longer, 4, size=16)]
        return await answered(house, [*known, request_, request_], 0)

    _, taken = at_home(work, made)
    assert taken == [1, 1, 0, 0, 0, 0]


def test_the_answers_of_a_model_in_its_place_carry_its_name(make_plane: Any, two: Bundle, tmp_path: Path) -> None:
    made = make_plane(limits=UNHURRIED)
    made.serve((CHAMPION, two))
    request = binary(RAW, 2, parameters={"binary_data_output": True})

    async def work(house: House) -> Any:
        _, taken = await answered(house, [request], 0)
        made.serve((type(CHAMPION)("other", "model:m@4", "1" * 64), two))
        after, taken_after = await answered(house, [request], 0)
        return after[0], taken + taken_after

    responses, taken = at_home(work, made)
    assert taken == [1, 1]
    assert [answer["parameters"]["variant"] for _, answer, _, _ in responses] == ["other", "other"]
    assert [np.frombuffer(tail[:8], "<f4").tolist() for _, _, tail, _ in responses] == [[10.5, 20.25]] * 2
