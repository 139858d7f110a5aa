"""gRPC's own client against our server: what HTTP/2 and gRPC promise beyond a small call that goes well."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
from tests.serve.grpc.conftest import MakeServing, Serving

from loopwright.serve.grpc.protos import messages

pytestmark = pytest.mark.slow

KINDS = messages("inference.proto")
INFER, STREAM = "/inference.GRPCInferenceService/ModelInfer", "/inference.GRPCInferenceService/ModelStreamInfer"
LARGE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def request_of(values: Any, **fields: Any) -> bytes:
    array = np.asarray(values, dtype="<f4")
    request = KINDS["ModelInferRequest"](model_name="plus", raw_input_contents=[array.tobytes()], **fields)
    request.inputs.add(name="x", datatype="FP32", shape=[len(array)])
    found: bytes = request.SerializeToString()
    return found


def values_of(answer: bytes) -> Any:
    return np.frombuffer(KINDS["ModelInferResponse"].FromString(answer).raw_output_contents[0], "<f4")


@pytest.fixture
def serving(make_serving: MakeServing) -> Serving:
    return make_serving()


@pytest.fixture
def channel(serving: Serving) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(serving.address, options=LARGE) as made:
        yield made


@pytest.mark.parametrize(
    "compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip, grpc.Compression.Deflate]
)
def test_messages_beyond_every_window_arrive_whole(channel: grpc.Channel, compression: grpc.Compression) -> None:
    values = np.random.default_rng(0).normal(size=60_000).astype("<f4")
    answer = channel.unary_unary(INFER)(request_of(values), timeout=20, compression=compression)
    np.testing.assert_array_equal(values_of(answer), values + np.float32(1))


def test_more_calls_at_once_than_streams_are_all_answered(channel: grpc.Channel, serving: Serving) -> None:
    ask = channel.unary_unary(INFER)
    futures = [ask.future(request_of([number]), timeout=30) for number in range(3_000)]
    assert [float(values_of(one.result())[0]) for one in futures] == [number + 1.0 for number in range(3_000)]
    assert serving.made.metrics.requests["plus", 200] == 3_000


def test_a_stream_with_more_than_it_takes_at_once_is_answered_in_order(make_serving: MakeServing) -> None:
    sizes = [1, 200, 1, 900, 3] * 80
    with grpc.insecure_channel(make_serving(stream_window=8_000).address) as channel:
        answers = channel.stream_stream(STREAM)(iter([request_of(np.full(size, 2.0)) for size in sizes]), timeout=60)
        found = [KINDS["ModelStreamInferResponse"].FromString(answer) for answer in answers]
    assert not [item.error_message for item in found if item.error_message]
    assert [len(item.infer_response.raw_output_contents[0]) // 4 for item in found] == sizes


@pytest.mark.parametrize(
    ("path", "message", "code", "text"),
    [
        ("/inference.GRPCInferenceService/Gone", b"", "UNIMPLEMENTED", "no method"),
        (INFER, b"\xff", "INVALID_ARGUMENT", "not of the protocol's form"),
        (INFER, request_of([1.0])[:-1], "INVALID_ARGUMENT", "not of the protocol's form"),
        (INFER, request_of([1.0], model_version="§"), "NOT_FOUND", "'§'"),
        (INFER, b"x" * 2_000_000, "RESOURCE_EXHAUSTED", "at most 1000000"),
    ],
)
def test_an_error_has_its_code_and_text(
    make_serving: MakeServing, path: str, message: bytes, code: str, text: str
) -> None:
    serving = make_serving(message_bytes=1_000_000)
    with grpc.insecure_channel(serving.address) as channel:
        for _ in range(2):  # the connection outlives it
            with pytest.raises(grpc.RpcError, match=text) as caught:
                channel.unary_unary(path)(message, timeout=20)
            assert caught.value.code().name == code
        assert channel.unary_unary(INFER)(request_of([1.0]), timeout=20)


def test_metadata_a_deadline_and_a_cancelled_call_leave_the_connection_as_it_was(
    channel: grpc.Channel, serving: Serving
) -> None:
    ask = channel.unary_unary(INFER)
    metadata = (("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), ("x-bin", b"\0\xff"))
    for number in range(200):
        call = ask.future(request_of([number]), timeout=10 + number, metadata=(*metadata, ("n", str(number))))
        if number % 3 == 0:
            call.cancel()
        else:
            assert float(values_of(call.result())[0]) == number + 1
    assert serving.unfinished() == 0
    assert serving.server.connections == 1


def test_a_conversation_that_is_cancelled_ends(channel: grpc.Channel, serving: Serving) -> None:
    going = threading.Event()

    def requests() -> Iterator[bytes]:
        yield request_of([1.0])
        going.wait(20)

    call = channel.stream_stream(STREAM)(requests())
    assert KINDS["ModelStreamInferResponse"].FromString(next(call)).infer_response.raw_output_contents
    call.cancel()
    going.set()
    for _ in range(500):
        if not any(connection.calls for connection in serving.server._connections):
            return
        time.sleep(0.01)
    pytest.fail("the call is still there")


def test_calls_go_on_with_another_server_while_one_drains(make_serving: MakeServing) -> None:
    first, second = make_serving(), make_serving()
    target = f"ipv4:{first.address},{second.address}"
    with grpc.insecure_channel(target, options=[("grpc.lb_policy_name", "round_robin")]) as channel:
        ask = channel.unary_unary(INFER)
        ask(request_of([0.0]), timeout=20, wait_for_ready=True)
        stop = threading.Event()

        def go_on() -> int:
            count = 0
            while not stop.is_set():
                assert float(values_of(ask(request_of([count]), timeout=20, wait_for_ready=True))[0]) == count + 1
                count += 1
            return count

        with ThreadPoolExecutor(4) as pool:
            counts = [pool.submit(go_on) for _ in range(4)]
            time.sleep(0.3)
            first.run(first.server.drain(5))
            time.sleep(0.2)
            stop.set()
            assert sum(one.result() for one in counts) > 20
    assert first.server.connections == 0
