"""The quick ways of V2 give what the thorough ones give, and refuse what those refuse."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.examples import examples

from loopwright.core import DType, Invalid
from loopwright.models import Input, Layout, Output, Signature
from loopwright.serve import ServedEndpoint, Variant
from loopwright.serve.block import Block
from loopwright.serve.codes import TooLarge
from loopwright.serve.intake import Intake
from loopwright.serve.loaded import LoadedEndpoint
from loopwright.serve.rest import v2, v2_binary
from loopwright.serve.rest.encodings import decoded
from loopwright.serve.rest.json_numbers import SENTINEL, Numbers
from loopwright.serve.rest.v2_codec import Codec

FLOATS = Signature((Input("a", DType.FLOAT64), Input("b", DType.FLOAT32, nullable=True)), (Output("y", DType.FLOAT32),))
MIXED = Signature(
    (
        Input("f", DType.FLOAT64),
        Input("gap", DType.FLOAT64, nullable=True),
        Input("n", DType.INT64),
        Input("b", DType.BOOL),
        Input("s", DType.STRING, nullable=True),
    ),
    (Output("y", DType.FLOAT32),),
)


class Model:
    """A predictor's outside."""

    inline = True

    def __init__(self, signature: Signature) -> None:
        self.signature, self.manifest = signature, SimpleNamespace(layout=Layout.COLUMNS)


def codec(signature: Signature) -> Codec:
    spec = ServedEndpoint("e", "salt", (Variant("champion", "model:m@1", "0" * 64),))
    return Codec(LoadedEndpoint(spec, {"0" * 64: Model(signature)}, {"0" * 64: ""}))  # type: ignore[dict-item]  # enough


def outcome(work: Callable[[], Any]) -> Any:
    """Rows as plain values, or the refusal's words."""
    try:
        rows = work()
    except Invalid as error:
        return str(error)
    return rows.rows() if isinstance(rows, Block) else [[None if x != x else x for x in row] for row in rows]


json_values = (
    st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-(2**70), 2**70)
    | st.none()
    | st.booleans()
    | st.text(max_size=3)
    | st.just(10**400)
)
shapes = st.lists(st.integers(-1, 3), max_size=3) | st.sampled_from([[1], [1, 1], [1, 2], [2, 2]])
tensors = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["f", "gap", "n", "b", "s", "a", "x"]),
        "shape": shapes,
        "datatype": st.sampled_from(["FP32", "FP64", "INT64", "BYTES", "BOOL", "?"]),
        "data": st.lists(json_values, max_size=4) | st.lists(st.floats(-5, 5), min_size=2, max_size=4),
    },
    optional={"parameters": st.just({"x": 1})},
)


@st.composite
def good_rows(draw: st.DrawFn) -> list[Any]:
    """One row, a tensor per input, in order, of mostly fitting values."""
    values = {
        "f": st.floats(-9, 9) | st.integers(-9, 9),
        "gap": st.none() | st.floats(-9, 9),
        "n": st.integers(-(2**63), 2**63) | st.just(3.0),
        "b": st.booleans() | st.integers(0, 2),
        "s": st.none() | st.text(max_size=3),
    }
    shape = draw(st.sampled_from([[1], [1, 1], [2]]))
    return [
        {"name": name, "shape": shape, "datatype": "BYTES" if name == "s" else "FP64", "data": [draw(value)]}
        for name, value in values.items()
    ]


@settings(max_examples=examples(300), deadline=None)
@given(st.lists(tensors, max_size=3) | good_rows(), st.sampled_from([FLOATS, MIXED]))
def test_a_request_is_read_as_the_thorough_way_reads_it(inputs: list[Any], signature: Signature) -> None:
    body = json.dumps({"inputs": inputs}).encode()
    quick, intake = codec(signature), Intake([signature])
    thorough = outcome(lambda: v2.rows_of(v2.read_request(body), intake))
    assert outcome(lambda: quick.read(body)[1]) == thorough
    assert outcome(lambda: quick.read(body)[1]) == thorough, "also when the last request was like it"


number_texts = (
    st.floats(allow_nan=False, allow_infinity=False).map(repr)
    | st.integers(-(2**66), 2**66).map(str)
    | st.sampled_from(
        [
            "-0",
            "0.0",
            "1e400",
            "-1E-400",
            "5e-324",
            "9007199254740993",
            "1.7976931348623157e308",
            "123e-7",
            "-9223372036854775809",
        ]
    )
)
odd_texts = st.sampled_from(["null", "true", '"7"', "NaN", "[1]", "01", "+1", ".5", "1.", "", "1 2", "{}", "-", "1e"])


@settings(max_examples=examples(300), deadline=None)
@given(
    st.lists(number_texts, min_size=2, max_size=12),
    st.none() | st.tuples(st.integers(0, 150), odd_texts),
    st.sampled_from([",", " ,\n\t"]),
    st.sampled_from(["", '"data":[5,6],', '"parameters":{"data":[5,6]},', '"x":"\\"data\\"[",', '"data":"[1]",']),
    st.sampled_from(["", ',"data":[1.5,2.5]', ',"shape":[1,2]', ",", "}"]),
    st.integers(-1, 1),
)
def test_many_numbers_are_read_as_the_thorough_way_reads_them(
    some: list[str], odd: tuple[int, str] | None, comma: str, before: str, behind: str, more: int
) -> None:
    values = (some * (200 // len(some) + 1))[:200] + ["-0.12345678901234567"] * 80
    if odd is not None:
        values[odd[0]] = odd[1]
    tensor = f'{{"name":"x","datatype":"FP64",{before}"shape":[{140 + more},2],"data":[{comma.join(values)}]{behind}}}'
    body = f'{{"inputs":[{tensor}],"id":"7"}}'.encode()
    assert len(body) > 2048, "fewer bytes are read in another way"
    intake = Intake([FLOATS])
    thorough = outcome(lambda: v2.rows_of(v2.read_request(body), intake))
    assert outcome(lambda: READER.read(body)[1]) == thorough


READER = codec(FLOATS)  # one for all: what it refuses leaves nothing behind


def test_numbers_are_cut_out_of_large_requests_alone() -> None:
    data = [0.1, 1, 2**53 + 1, -2e-300] * 60
    body = json.dumps({"inputs": [{"name": "x", "shape": [120, 2], "datatype": "FP64", "data": data}]}).encode()
    cut = Numbers().cut(body)
    assert cut is not None, "simdjson is there, and reads what json.dumps writes"
    assert np.frombuffer(cut[1]).tolist() == list(map(float, data))
    assert v2.read_request(cut[0]).inputs[0].data == [SENTINEL]
    _, rows = codec(FLOATS).read(body)
    assert isinstance(rows, Block)
    assert rows.rows() == np.array(data, dtype=float).reshape(-1, 2).tolist()
    assert Numbers().cut(body[:500]) is None


def test_the_usual_requests_are_read_the_quick_way() -> None:
    matrix = {"inputs": [{"name": "any", "shape": [2, 2], "datatype": "FP32", "data": [1, 2.5, 3, 4]}], "id": "7"}
    request, rows = codec(FLOATS).read(json.dumps(matrix).encode())
    assert isinstance(rows, Block)
    assert (rows.rows(), request.id) == ([[1.0, 2.5], [3.0, 4.0]], "7")
    row = [
        {"name": item.name, "shape": [1, 1], "datatype": "FP64", "data": [value]}
        for item, value in zip(MIXED.inputs, [1, None, 3, True, "x"], strict=True)
    ]
    request, rows = codec(MIXED).read(json.dumps({"inputs": row}).encode())
    assert rows == [[1.0, None, 3, True, "x"]]
    assert type(request).__name__ == "RowRequest"


def packed(tensors: list[dict[str, Any]], raw: bytes = b"", **more: Any) -> tuple[bytes, bytes]:
    """A body of the binary extension, and the length of its JSON."""
    text = json.dumps({"inputs": tensors, **more}).encode()
    return text + raw, str(len(text)).encode()


def binary(name: str, values: np.ndarray[Any, Any], datatype: str, size: int | None = None) -> dict[str, Any]:
    parameters = {"binary_data_size": values.nbytes if size is None else size}
    return {"name": name, "shape": list(values.shape), "datatype": datatype, "parameters": parameters}


numbers = st.lists(
    st.tuples(st.floats(-9, 9, width=32), st.just(float("nan")) | st.floats(-9, 9, width=32)), min_size=1, max_size=9
)


@given(numbers, st.sampled_from(["FP32", "FP64"]))
def test_binary_tensors_are_read_as_their_json_form_is(rows: list[Any], datatype: str) -> None:
    array = np.array(rows, dtype={"FP32": "<f4", "FP64": "<f8"}[datatype])
    intake = Intake([FLOATS])
    _, whole = v2_binary.read_request(*packed([binary("x", array, datatype)], array.tobytes()), intake)
    a, b = np.ascontiguousarray(array[:, :1]), np.ascontiguousarray(array[:, 1])
    parts = packed([binary("b", b, datatype), binary("a", a, datatype)], b.tobytes() + a.tobytes())
    _, columns = v2_binary.read_request(*parts, intake)
    listed = [None if value != value else value for row in array.tolist() for value in row]
    tensors = [
        {"name": name, "shape": [len(rows)], "datatype": datatype, "data": listed[at::2]}
        for at, name in enumerate("ab")
    ]
    plain = v2.rows_of(v2.read_request(json.dumps({"inputs": tensors}).encode()), intake)
    assert outcome(lambda: whole) == outcome(lambda: columns) == plain


def strings(*values: bytes) -> bytes:
    return b"".join(len(value).to_bytes(4, "little") + value for value in values)


def test_strings_numbers_and_json_tensors_go_together_in_one_request() -> None:
    raw = strings(b"a", "ü".encode())
    whole = np.array([1, 2], dtype="<i4")
    tensors = [
        {"name": "s", "shape": [2, 1], "datatype": "BYTES", "parameters": {"binary_data_size": len(raw)}},
        binary("n", whole, "INT32"),
        {"name": "f", "shape": [2], "datatype": "FP64", "data": [1, 2.5]},
        {"name": "gap", "shape": [2], "datatype": "FP64", "data": [None, 1.0]},
        binary("b", np.array([True, False]), "BOOL"),
    ]
    body = packed(tensors, raw + whole.tobytes() + b"\1\0")
    _, rows = v2_binary.read_request(*body, Intake([MIXED]))
    assert isinstance(rows, Block)
    assert rows.rows() == [[1.0, None, 1, True, "a"], [2.5, 1.0, 2, False, "ü"]]


def text_tensor(size: int) -> dict[str, Any]:
    return {"name": "a", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": size}}


TWO = np.array([[1.0, 2.0]], dtype="<f4")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (packed([binary("x", TWO, "FP32")], TWO.tobytes()[:-1]), "7 bytes are there"),
        (packed([binary("x", TWO, "FP32")], TWO.tobytes() + b"z"), "9 bytes are there"),
        (packed([binary("x", TWO, "FP64")], TWO.tobytes()), "has shape \\[1, 2\\] of FP64"),
        (packed([binary("x", TWO, "FP32", 1 << 40)], TWO.tobytes()), "says that it has 1099511627776 bytes"),
        (packed([binary("x", TWO, "FP32", -1)], TWO.tobytes()), "binary_data_size"),
        (packed([binary("x", TWO, "FP99")], TWO.tobytes()), "'FP99'"),
        (packed([binary("x", TWO, "FP32") | {"shape": [2**31, 2**31]}], TWO.tobytes()), "has shape"),
        (packed([binary("x", TWO, "FP32") | {"shape": [-1, 2]}], TWO.tobytes()), "has shape"),
        (packed([binary("x", TWO, "FP32") | {"shape": [1] * 9}], TWO.tobytes()), "has shape"),
        (packed([binary("x", TWO, "FP32") | {"shape": [0, 2], "parameters": {"binary_data_size": 0}}]), "no rows"),
        (packed([binary("x", TWO * np.inf, "FP32")], (TWO * np.inf).tobytes()), "input 'a', row 0: is infinite"),
        (packed([binary("x", TWO * np.nan, "FP32")], (TWO * np.nan).tobytes()), "input 'a', row 0: is missing"),
        (packed([binary("x", TWO[:, :1], "FP32")], TWO.tobytes()[:4]), "has 1 values a row; the model takes 2"),
        (packed([binary("a", TWO[0, :1], "FP32")] * 2, TWO.tobytes()), "in the request twice"),
        (packed([binary("a", TWO[0, :1], "FP32")], TWO.tobytes()[:4]), "lacks the input"),
        ((packed([])[0], b"1000"), "Inference-Header-Content-Length is '1000'"),
        ((packed([])[0], b"-1"), "Inference-Header-Content-Length"),
        ((packed([])[0], b"3"), "protocol's form"),
        (packed([]), "has no inputs"),
        (packed([text_tensor(6)], b"\x09\0\0\0ab"), "reaches beyond"),
        (packed([text_tensor(5)], strings(b"a")), "takes a number"),
        (packed([text_tensor(9)], strings(b"a", b"")), "left behind its last string"),
    ],
)
def test_a_binary_request_that_does_not_fit_is_refused(body: tuple[bytes, bytes], message: str) -> None:
    with pytest.raises(Invalid, match=message):
        v2_binary.read_request(*body, Intake([FLOATS]))


@given(st.binary(max_size=60), st.integers(-2, 70), st.booleans())
def test_random_bytes_are_refused_and_never_crash(noise: bytes, size: int, framed: bool) -> None:
    body, header = packed([binary("x", TWO, "FP32")], noise) if framed else (noise, str(size).encode())
    if framed and len(noise) == TWO.nbytes:
        return
    with pytest.raises(Invalid):
        v2_binary.read_request(body, header, Intake([FLOATS]))


def test_compressed_bodies_are_unpacked_up_to_a_limit() -> None:
    text = b"x" * 1000
    for packed_, name in ((gzip.compress(text), b"gzip"), (zlib.compress(text), b" Deflate"), (text, b"identity")):
        assert decoded(packed_, name, 1000) == text
    for body, name, most, message in (
        (gzip.compress(text)[:-9], b"gzip", 1000, "ends before"),
        (gzip.compress(text) * 2, b"gzip", 9000, "goes on behind"),
        (text, b"gzip", 1000, "is not gzip"),
        (text, b"br", 1000, "'br' is not known"),
    ):
        with pytest.raises(Invalid, match=message):
            decoded(body, name, most)
    with pytest.raises(TooLarge, match="more than 999 bytes") as refused:
        decoded(gzip.compress(text), b"gzip", 999)
    assert refused.value.http_status == 413


def test_an_answer_to_one_row_is_the_same_json_as_the_general_form(tmp_path: Path) -> None:
    import asyncio

    from tests.serve.conftest import Plane, adding_bundle

    from loopwright.serve.query import Query

    made = Plane(tmp_path)
    name = Variant('a "quoted" % name', "model:m@1", "0" * 64)
    endpoint = made.serve((name, adding_bundle(1.0, tmp_path / "bundle")))
    codec_ = Codec(endpoint)
    plain = v2.read_request(b'{"inputs":[]}')
    named = msgspec.structs.replace(plain, outputs=[v2.RequestedOutput("value")])

    async def work() -> Any:
        replies: list[Any] = []
        for value in (1.5, -2.0):
            made.plane.submit(Query("e", endpoint.intake.rows([("x", [value])]), replies.append), endpoint)
        await asyncio.sleep(0.01)
        return replies

    for answer in asyncio.run(work()):
        assert json.loads(codec_.write(answer, plain)) == json.loads(codec_.write(answer, named))
        assert json.loads(codec_.write(answer, plain))["parameters"]["prediction_ids"] == answer.ids
