"""A request whose bytes were seen before is answered as protobuf reads and writes it."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.examples import examples
from tests.serve.conftest import Plane, adding_bundle

from loopwright.models import Bundle
from loopwright.serve import Variant
from loopwright.serve.codes import Code
from loopwright.serve.grpc.calls import handle
from loopwright.serve.grpc.inference import Inference
from loopwright.serve.grpc.protos import messages
from loopwright.serve.repository import PlaneRepository

KINDS = messages("inference.proto")
_TOO_LARGE = re.compile(r"^input '\w+', row \d+: (?=a number is too large for float32)")


class Asked:
    """A caller that keeps what it is told."""

    started_ns, deadline_ns, endpoint = 1, 0, ""

    def __init__(self) -> None:
        self.told: asyncio.Future[Any] = asyncio.get_event_loop().create_future()

    @property
    def is_open(self) -> bool:
        return not self.told.done()

    def answer(self, message: bytes, _more: bytes = b"") -> None:
        found = KINDS["ModelInferResponse"].FromString(message)
        ids = found.parameters.pop("prediction_ids").string_param.split(",")
        assert all(len(one) == 32 for one in ids)
        self.told.set_result((len(ids), str(found), dict(found.parameters)))

    def finish(self, code: Code, text: str = "") -> None:
        found = _TOO_LARGE.sub("", text)  # lists of few plain rows know no more of it
        self.told.set_result((code, found))


class Two:
    """The same data plane behind plans, and behind protobuf alone."""

    def __init__(self, folder: Path, bundle: Bundle) -> None:
        self.loop = asyncio.new_event_loop()
        made = Plane(folder)
        self.plane = made.plane
        made.serve((Variant("champion", "model:plus@1", "0" * 64), bundle), name="plus")
        self.warm = self.inference()

    def inference(self) -> Inference:
        repository = PlaneRepository(self.plane)
        return Inference(self.plane, lambda: repository, lambda: True)

    def ask(self, service: Inference, data: bytes) -> Any:
        async def asked() -> Any:
            caller = Asked()
            handle(self.plane, service.infer, caller, data)
            return await asyncio.wait_for(caller.told, 10)

        asyncio.set_event_loop(self.loop)
        return self.loop.run_until_complete(asked())

    def check(self, data: bytes) -> Any:
        found = self.ask(self.warm, data)
        assert found == self.ask(self.inference(), data)
        return found


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Two:
    folder = tmp_path_factory.mktemp("plans")
    return Two(folder, adding_bundle(1.0, folder / "bundle", second="z"))


def request_of(form: str, datatype: str, rows: int, values: np.ndarray[Any, Any], output: bool = False) -> bytes:
    request = KINDS["ModelInferRequest"](model_name="plus")
    parts = [values[: 2 * rows].reshape(rows, 2)] if form == "matrix" else [values[:rows], values[rows : 2 * rows]]
    for name, part in zip(("all",) if form == "matrix" else ("x", "z"), parts, strict=True):
        request.inputs.add(name=name, datatype=datatype, shape=part.shape)
        request.raw_input_contents.append(part.astype("<f4" if datatype == "FP32" else "<f8").tobytes())
    if output:
        request.outputs.add(name="value")
    found: bytes = request.SerializeToString()
    return found


FORMS = st.tuples(
    st.sampled_from(["matrix", "columns"]), st.sampled_from(["FP32", "FP64"]), st.integers(1, 3), st.booleans()
)
VALUES = st.lists(st.floats(width=32) | st.sampled_from([1e300, np.nan, np.inf]), min_size=6, max_size=6)


@settings(max_examples=examples(50), deadline=None)
@given(FORMS, st.lists(VALUES, min_size=1, max_size=2))
def test_values_of_all_kinds_are_answered_alike(two: Two, form: tuple[str, str, int, bool], rows: Any) -> None:
    layout, datatype, count, output = form
    two.ask(two.warm, request_of(layout, datatype, count, np.ones(6), output))
    with np.errstate(over="ignore"):
        for values in rows:
            two.check(request_of(layout, datatype, count, np.array(values), output))
    assert two.warm._plans._known


@settings(max_examples=examples(100), deadline=None)
@given(FORMS, st.integers(0, 200), st.integers(0, 255), st.booleans())
def test_a_changed_byte_is_never_taken_for_what_it_was(
    two: Two, form: tuple[str, str, int, bool], at: int, byte: int, cut: bool
) -> None:
    layout, datatype, count, output = form
    data = bytearray(request_of(layout, datatype, count, np.arange(6.0), output))
    assert two.check(bytes(data))[0] == count
    data[at % len(data)] = byte
    two.check(bytes(data[: at % len(data)] if cut else data))


def test_a_plan_ends_with_its_endpoint(two: Two, tmp_path: Path) -> None:
    data = request_of("matrix", "FP32", 1, np.array([1.0, 2.0]))
    assert "'plus'" not in str(two.check(data)[1])
    kept = two.plane.endpoints.pop("plus")
    try:
        assert two.ask(two.warm, data)[0] == Code.NOT_FOUND
    finally:
        two.plane.endpoints["plus"] = kept
