"""HTTP/2 as it may arrive, byte by byte, strange or hostile: answered, refused by its code, never a hang or a crash."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator

import pytest
from hpack import Decoder, Encoder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.examples import examples
from tests.serve.grpc.conftest import MakeServing, Serving
from tests.serve.grpc.test_clients import INFER, request_of, values_of

from loopwright.serve.grpc import frames
from loopwright.serve.grpc.frames import frame

HELLO = frames.PREFACE + frame(frames.SETTINGS, 0, 0)
FIELDS = [(":method", "POST"), (":scheme", "http"), (":path", INFER), ("te", "trailers")]
GRPC = ("content-type", "application/grpc")
Frame = tuple[int, int, int, bytes]


def message(values: list[float]) -> bytes:
    data = request_of(values)
    return b"\0" + len(data).to_bytes(4, "big") + data


def head(*more: tuple[str, str], fields: list[tuple[str, str]] = FIELDS) -> bytes:
    return Encoder().encode([*fields, GRPC, *more])


def call(number: int, values: list[float]) -> bytes:
    return frame(frames.HEADERS, frames.END_HEADERS, number, head()) + frame(
        frames.DATA, frames.END_STREAM, number, message(values)
    )


class Raw:
    """A connection whose bytes we write ourselves."""

    def __init__(self, serving: Serving) -> None:
        self.plug = socket.create_connection(("127.0.0.1", serving.port), timeout=10)
        self.file = self.plug.makefile("rb")
        self.decoder = Decoder()

    def send(self, *data: bytes) -> None:
        self.plug.sendall(b"".join(data))

    def frames(self) -> Iterator[Frame]:
        with contextlib.suppress(ConnectionResetError):
            while len(start := self.file.read(9)) == 9:
                upper, lower, kind, flags, number = frames.HEAD.unpack(start)
                yield kind, flags, number, self.file.read(upper << 16 | lower)

    def answer(self, number: int) -> tuple[dict[str, str], bytes]:
        """The fields and the message of a stream, up to its end."""
        fields: dict[str, str] = {}
        data = b""
        for kind, flags, whose, payload in self.frames():
            if kind == frames.HEADERS:
                found = dict(self.decoder.decode(payload))
                fields |= found if whose == number else {}
            if whose == number and kind == frames.DATA:
                data += payload
            if whose == number and (kind == frames.RST_STREAM or flags & frames.END_STREAM):
                return fields, data[5:]
            assert kind != frames.GOAWAY, payload
        raise AssertionError("the connection ended")

    def goodbye(self) -> frames.Trouble:
        """Why the connection ends."""
        for kind, _, _, payload in self.frames():
            if kind == frames.GOAWAY:
                return frames.Trouble(struct.unpack(">I", payload[4:8])[0])
        raise AssertionError("no reason was given")


@pytest.fixture
def serving(make_serving: MakeServing) -> Serving:
    return make_serving(request_s=0.4)


@pytest.fixture
def raw(serving: Serving) -> Iterator[Raw]:
    made = Raw(serving)
    yield made
    made.file.close()
    made.plug.close()


def test_bytes_may_come_one_by_one_with_padding_priority_and_pieces(raw: Raw) -> None:
    block, data = head(), message([2.0])
    padded = frames.PADDED | frames.WITH_PRIORITY
    whole = (
        HELLO
        + frame(frames.HEADERS, padded, 1, b"\x03" + b"\0\0\0\0\x10" + block[:7] + b"\0\0\0")
        + frame(frames.CONTINUATION, 0, 1, block[7:9])
        + frame(frames.CONTINUATION, frames.END_HEADERS, 1, block[9:])
        + frame(frames.PRIORITY, 0, 1, b"\0\0\0\0\x10")
        + frame(frames.DATA, frames.PADDED, 1, b"\x02" + data[:3] + b"\0\0")
        + frame(0xBE, 7, 1, b"unknown")
        + frame(frames.DATA, 0, 1, data[3:])
        + frame(frames.DATA, frames.END_STREAM, 1)
    )
    for at in range(len(whole)):
        raw.send(whole[at : at + 1])
    fields, found = raw.answer(1)
    assert fields["grpc-status"] == "0"
    assert values_of(found).tolist() == [3.0]
    raw.send(call(3, [4.0]))
    assert values_of(raw.answer(3)[1]).tolist() == [5.0]


def test_an_answer_waits_for_the_callers_window(raw: Raw) -> None:
    tiny = frame(frames.SETTINGS, 0, 0, struct.pack(">HI", frames.WINDOW, 10))
    raw.send(frames.PREFACE, tiny, call(1, [1.0]))
    assert next(len(payload) for kind, _, _, payload in raw.frames() if kind == frames.DATA) == 10
    raw.send(frame(frames.PING, 0, 0, b"12345678"))
    assert next(raw.frames()) == (frames.PING, frames.ACK, 0, b"12345678")  # there was room for no more
    raw.send(frames.window_update(1, 5_000))
    assert raw.answer(1)[0]["grpc-status"] == "0"


def test_a_head_in_the_table_is_the_one_that_was_sent(raw: Raw) -> None:
    encoder = Encoder()
    for number, path in ((1, INFER), (3, INFER), (5, "/other/Method"), (7, INFER), (9, "/other/Method"), (11, INFER)):
        fields = [*FIELDS[:2], (":path", path), GRPC]
        raw.send(
            HELLO if number == 1 else b"", frame(frames.HEADERS, frames.END_HEADERS, number, encoder.encode(fields))
        )
        raw.send(frame(frames.DATA, frames.END_STREAM, number, message([float(number)])))
        status = raw.answer(number)[0]["grpc-status"]
        assert status == ("0" if path == INFER else "12")


@pytest.mark.parametrize(
    ("sent", "trouble"),
    [
        (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", "PROTOCOL"),
        (frames.PREFACE + frame(frames.PING, 0, 0, b"12345678"), "PROTOCOL"),
        (HELLO + frame(frames.PING, 0, 0, b"1"), "FRAME_SIZE"),
        (HELLO + b"\xff\xff\xff\x00\x00\0\0\0\x01", "FRAME_SIZE"),
        (HELLO + frame(frames.SETTINGS, 0, 0, b"\0\0\0"), "FRAME_SIZE"),
        (HELLO + frame(frames.SETTINGS, 0, 0, struct.pack(">HI", frames.WINDOW, 1 << 31)), "FLOW_CONTROL"),
        (HELLO + frame(frames.DATA, 0, 1, b"1"), "PROTOCOL"),
        (HELLO + frame(frames.HEADERS, frames.END_HEADERS, 2, head()), "PROTOCOL"),
        (HELLO + frame(frames.HEADERS, frames.END_HEADERS, 1, b"\xff\xff\xff\xff\xff"), "COMPRESSION"),
        (HELLO + frame(frames.HEADERS, frames.END_HEADERS, 1, b"\xc8"), "COMPRESSION"),
        (HELLO + frame(frames.HEADERS, frames.END_HEADERS | frames.PADDED, 1, b"\xff"), "PROTOCOL"),
        (HELLO + frame(frames.HEADERS, 0, 1, head()) + frame(frames.PING, 0, 0, b"12345678"), "PROTOCOL"),
        (HELLO + frame(frames.HEADERS, 0, 1) + frame(frames.CONTINUATION, 0, 1, b"a" * 16_000) * 2, "TOO_MUCH"),
        (HELLO + frame(frames.HEADERS, frames.END_HEADERS, 1, head(*[("a", "b" * 40)] * 3_000)), "COMPRESSION"),
        (HELLO + frame(frames.WINDOW_UPDATE, 0, 0, b"\0\0\0\0"), "PROTOCOL"),
        (HELLO + frames.window_update(0, frames.MOST_WINDOW), "FLOW_CONTROL"),
        (HELLO + frames.reset(1, frames.Trouble.CANCEL), "PROTOCOL"),
        (HELLO + frame(frames.PUSH_PROMISE, 0, 1, b"\0\0\0\2"), "PROTOCOL"),
    ],
)
def test_a_broken_rule_ends_the_connection_with_its_reason(
    serving: Serving, raw: Raw, sent: bytes, trouble: str
) -> None:
    raw.send(sent)
    assert raw.goodbye().name == trouble
    assert serving.unfinished() == 0


def test_cancelling_without_end_ends_the_connection(raw: Raw) -> None:
    opened = frame(frames.HEADERS, frames.END_HEADERS, 1, head())[:5]
    block = head()
    raw.send(HELLO)
    with contextlib.suppress(ConnectionError):
        for number in range(1, 9_000, 2):
            raw.send(opened, number.to_bytes(4, "big"), block, frames.reset(number, frames.Trouble.CANCEL))
    assert raw.goodbye().name == "TOO_MUCH"


@pytest.mark.parametrize(
    ("fields", "status"),
    [([*FIELDS, ("content-type", "text/html")], "415"), ([(":method", "GET"), (":path", INFER), GRPC], "405")],
)
def test_what_is_no_call_of_grpc_gets_a_status_of_http(raw: Raw, fields: list[tuple[str, str]], status: str) -> None:
    ended = frames.END_HEADERS | frames.END_STREAM
    raw.send(HELLO, frame(frames.HEADERS, ended, 1, Encoder().encode(fields)))
    assert raw.answer(1)[0][":status"] == status


@pytest.mark.slow
def test_a_request_that_does_not_arrive_is_given_up(raw: Raw, serving: Serving) -> None:
    raw.send(HELLO, frame(frames.HEADERS, frames.END_HEADERS, 1, head()), frame(frames.DATA, 0, 1, message([1.0])[:9]))
    fields, _ = raw.answer(1)
    assert fields["grpc-status"] == "4"
    assert serving.unfinished() == 0
    silent = Raw(serving)
    assert silent.goodbye().name == "TOO_MUCH"


def test_a_call_with_two_messages_or_half_of_one_is_refused(raw: Raw) -> None:
    two = message([1.0]) * 2
    for number, data in ((1, two), (3, message([1.0])[:-2]), (5, b""), (7, b"\1\0\0\0\2ab")):
        block = Encoder().encode([*FIELDS, GRPC, ("grpc-encoding", "snappy")])
        raw.send(HELLO if number == 1 else b"", frame(frames.HEADERS, frames.END_HEADERS, number, block))
        raw.send(frame(frames.DATA, frames.END_STREAM, number, data))
        assert raw.answer(number)[0]["grpc-status"] == ("12" if number == 7 else "3")


FRAMES = st.builds(
    frame,
    st.integers(0, 10),
    st.sampled_from([0, 1, 4, 5, 8, 0x20, 0x2D]),
    st.sampled_from([0, 1, 2, 3, 5, 1 << 30]),
    st.one_of(
        st.binary(max_size=40),
        st.just(head()),
        st.just(message([1.0])),
        st.just(b"\0\0\0\0\x08"),
        st.builds(lambda key, value: struct.pack(">HI", key, value), st.integers(0, 7), st.integers(0, (1 << 32) - 1)),
    ),
)


@pytest.mark.slow
def test_any_frames_leave_the_server_answering(serving: Serving, capfd: pytest.CaptureFixture[str]) -> None:
    @settings(max_examples=examples(150), deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(FRAMES, max_size=12), st.integers(1, 400))
    def send(made: list[bytes], cut: int) -> None:
        data = b"".join(made)
        with socket.create_connection(("127.0.0.1", serving.port), timeout=10) as plug, contextlib.suppress(OSError):
            plug.sendall(HELLO + data[:cut])
            plug.sendall(data[cut:])

    send()
    after = Raw(serving)
    after.send(HELLO, call(1, [1.0]))
    assert values_of(after.answer(1)[1]).tolist() == [2.0]
    for _ in range(500):
        if serving.server.connections <= 1:
            break
        time.sleep(0.01)
    assert serving.server.connections <= 1
    assert serving.unfinished() == 0
    assert "Traceback" not in capfd.readouterr().err
