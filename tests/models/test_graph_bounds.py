"""A graph from outside is judged before ONNX Runtime sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest
from onnx import TensorProto, helper, numpy_helper

from loopwright.core import Invalid
from loopwright.models import build_bundle
from loopwright.models.graph_bounds import GraphLimits, check_bounds

FLOAT = TensorProto.FLOAT


def model(
    nodes: list[Any],
    weights: Sequence[Any] = (),
    shape: Sequence[Any] = (None, 2),
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", FLOAT, shape)],
        [helper.make_tensor_value_info("y", FLOAT, [None, 2])],
        weights,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def outside(location: str, shape: Sequence[int] = (2,), **places: int) -> onnx.TensorProto:
    tensor = TensorProto(name="w", data_type=FLOAT, dims=shape, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **places}.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)
    return tensor


def added(weight: Any) -> onnx.ModelProto:
    return model([helper.make_node("Add", ["x", "w"], ["y"])], [weight])


def body(*nodes: Any) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), "body", [], [helper.make_tensor_value_info("b", FLOAT, None)])


def choice(inner: onnx.GraphProto) -> onnx.NodeProto:
    return helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)


def whole(name: str, *values: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, dtype=np.int64), name)


def deep(levels: int) -> onnx.GraphProto:
    inner = body(helper.make_node("Identity", ["x"], ["b"]))
    for _ in range(levels):
        node = helper.make_node("If", ["c"], ["b"], then_branch=inner)
        inner = body(node)
    return inner


def short_of_bytes() -> onnx.TensorProto:
    return TensorProto(name="w", data_type=FLOAT, dims=[1 << 20], raw_data=b"\0" * 8)


def functions(*bodies: list[str]) -> onnx.ModelProto:
    """A graph that calls f0; each function calls the others that its list names, or is an Identity."""
    opset = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    made = []
    for number, calls in enumerate(bodies):
        nodes = [helper.make_node(name, ["a"], [f"b{at}"], domain="own") for at, name in enumerate(calls)]
        nodes.append(helper.make_node("Identity", ["a"], ["b"]))
        made.append(helper.make_function("own", f"f{number}", ["a"], ["b"], nodes, opset))
    found = model([helper.make_node("f0", ["x"], ["y"], domain="own")])
    found.functions.extend(made)
    return found


def sparse() -> onnx.ModelProto:
    values = helper.make_tensor("v", FLOAT, [1], [1.0])
    held = helper.make_sparse_tensor(values, whole("i", 0), [1 << 40])
    return model([helper.make_node("Constant", [], ["y"], sparse_value=held)])


CUSTOM = helper.make_node("Evil", ["x"], ["y"], domain="com.example")
CUSTOM_INSIDE = helper.make_node("Evil", ["x"], ["b"], domain="com.example")
REFUSED: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "an operator of another domain": (lambda: model([CUSTOM]), "com.example:Evil"),
    "one in the branch of an If": (lambda: model([choice(body(CUSTOM_INSIDE))]), "com.example:Evil"),
    "a shape beyond all bounds": (lambda: model([], shape=[1 << 20, 1 << 20]), "'x' has the shape"),
    "a weight that says it is huge": (lambda: added(short_of_bytes()), "8 bytes, not 4,194,304"),
    "a constant of a huge shape": (
        lambda: model([helper.make_node("ConstantOfShape", ["s"], ["y"])], [whole("s", 1 << 40)]),
        "ConstantOfShape",
    ),
    "a gigabyte made of sixteen bytes": (
        lambda: model([helper.make_node("ConstantOfShape", ["s"], ["y"])], [whole("s", 1 << 14, 1 << 14)]),
        "ConstantOfShape",
    ),
    "a huge shape from a constant": (
        lambda: model(
            [
                helper.make_node("Constant", [], ["s"], value=whole("s", 1 << 20, 1 << 20)),
                helper.make_node("Expand", ["x", "s"], ["y"], name="swell"),
            ]
        ),
        "'swell' has the shape",
    ),
    "a row repeated without end": (
        lambda: model([helper.make_node("Tile", ["x", "s"], ["y"])], [whole("s", 1 << 33)]),
        "Tile",
    ),
    "random numbers without end": (
        lambda: model([helper.make_node("RandomNormal", [], ["y"], shape=[1 << 40])]),
        "RandomNormal",
    ),
    "a loop without end": (
        lambda: model([helper.make_node("Loop", ["m", "", "x"], ["y"], body=body())], [whole("m", 1 << 60)]),
        "runs 1,152,921,504,606,846,976 times",
    ),
    "graphs inside graphs": (lambda: model([choice(deep(18))]), "nested"),
    "a sparse tensor that is huge when it is made dense": (sparse, "'v' has the shape"),
    "a function that calls itself": (lambda: functions(["f0"]), "'f0' calls itself"),
    "functions that call each other": (lambda: functions(["f1"], ["f0"]), "calls itself"),
    "functions that multiply": (
        lambda: functions(*[[f"f{number + 1}"] * 10 for number in range(8)], []),
        "with its functions put in",
    ),
    "weights elsewhere": (lambda: added(outside("weights.bin")), "lie in another file"),
    "weights elsewhere in a branch": (
        lambda: model([choice(body(helper.make_node("Constant", [], ["b"], value=outside("w.bin"))))]),
        "lie in another file",
    ),
}


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_a_graph_that_reaches_out_or_swells_is_refused(case: str) -> None:
    make, told = REFUSED[case]
    with pytest.raises(Invalid, match=told):
        check_bounds(make())


def test_functions_of_its_own_are_a_graph_s_right() -> None:
    assert check_bounds(functions(["f1", "f1"], [])) == []


def test_more_nodes_than_any_model_needs_are_refused() -> None:
    nodes = [helper.make_node("Identity", ["x"], ["y"]) for _ in range(30)]
    check_bounds(model(nodes))
    with pytest.raises(Invalid, match="more than 20 nodes"):
        check_bounds(model(nodes), limits=GraphLimits(nodes=20))


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/passwd", "a/../../weights.bin", "", "C:\\weights.bin"])
def test_weights_outside_of_the_folder_are_refused(location: str, tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"\0" * 8)
    (tmp_path / "model").mkdir()
    with pytest.raises(Invalid, match="not inside the model's folder"):
        check_bounds(added(outside(location)), tmp_path / "model")


def test_weights_behind_a_link_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\0" * 8)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights.bin").symlink_to(tmp_path / "secret")
    with pytest.raises(Invalid, match="behind the link"):
        check_bounds(added(outside("weights.bin")), tmp_path / "model")


@pytest.mark.parametrize(
    ("places", "told"),
    [
        ({"offset": 4, "length": 8}, "need 8 bytes from 4"),
        ({"length": 1 << 40}, "need 8 bytes"),
        ({"length": 4}, "need 8 bytes"),
        ({"offset": -8}, "the offset '-8'"),
    ],
)
def test_weights_beyond_their_file_are_refused(places: dict[str, int], told: str, tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"\0" * 8)
    with pytest.raises(Invalid, match=told):
        check_bounds(added(outside("weights.bin", **places)), tmp_path)


def test_weights_that_are_too_large_in_all_are_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"\0" * 8)
    with pytest.raises(Invalid, match="more than 4 bytes"):
        check_bounds(added(outside("weights.bin")), tmp_path, GraphLimits(external_bytes=4))


def test_weights_beside_the_file_become_part_of_the_bundle(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(np.array([1.0, 2.0], dtype=np.float32).tobytes())
    (tmp_path / "model.onnx").write_bytes(added(outside("weights.bin")).SerializeToString())
    bundle = build_bundle(tmp_path / "model.onnx", pl.DataFrame({"a": [1.0], "b": [2.0]}), task="other")
    (tmp_path / "weights.bin").unlink()
    assert bundle.predictor().predict_rows([[10.0, 20.0]])["y"].tolist() == [[11.0, 22.0]]


def test_a_missing_file_of_weights_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(added(outside("weights.bin")).SerializeToString())
    with pytest.raises(Invalid, match=r"weights\.bin.*not there"):
        build_bundle(tmp_path / "model.onnx", pl.DataFrame({"a": [1.0], "b": [2.0]}))
