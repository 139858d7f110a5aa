"""Smaller graphs: weights in 8 bits or in half precision, by ONNX Runtime's own tools, where there are such weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core import Invalid
from loopwright.serve.edge.model import Precision

if TYPE_CHECKING:
    import numpy as np
    import onnx

    Feed = dict[str, np.ndarray[Any, Any]]

_FLOAT = 1
# Of these the integer forms exist in ONNX Runtime on a CPU and in a browser.
_STATIC = ("MatMul", "Gemm", "Conv")
_BATCH = 64


class Shrunk(msgspec.Struct, frozen=True):
    """A graph after the attempt: `applied` names what it has, `reason` says why that is not what was asked for."""

    graph: bytes
    applied: str
    reason: str = ""


def shrink(graph: bytes, precision: Precision, folder: Path, calibration: Sequence[Feed] = ()) -> Shrunk:
    """A graph in another precision; its inputs and outputs keep their types.

    Args:
        graph: an ONNX graph that is whole in itself.
        folder: for files of passage.
        calibration: rows as the graph takes them; with them int8 becomes static.

    Returns:
        the graph as it was where it has no weights that could be kept so, or would not become smaller.

    Raises:
        Invalid: ONNX Runtime's tools cannot convert it, or cannot load what they made.
    """
    if precision is Precision.NONE:
        return Shrunk(graph, precision.value)
    before = weights_of(graph)
    if not before.get("FLOAT"):
        return Shrunk(graph, Precision.NONE.value, f"{_own_numbers(graph)}: there is nothing to make {precision}")
    try:
        typed = _typed(graph)
        if precision is Precision.FP16:
            made, applied = _halved(typed), "fp16"
        else:
            made = _quantised(typed, folder, calibration)
            applied = "int8 (static)" if calibration else "int8 (dynamic)"
    except Exception as error:  # the converters raise what comes: KeyError, RuntimeError, onnxruntime's own
        raise Invalid(
            f"the graph cannot be made {precision}: {(str(error).splitlines() or [repr(error)])[0][:300]}",
            next_step="export it with --precision none" + (" or fp16" if precision is Precision.INT8 else ""),
        ) from error
    if weights_of(made).get("FLOAT", 0) == before["FLOAT"]:
        return Shrunk(
            graph, Precision.NONE.value, f"no operator of it takes {precision} weights; {_own_numbers(graph)}"
        )
    if len(made) >= len(graph):
        reason = (
            f"it would not be smaller in {precision} ({len(made):,} bytes, now {len(graph):,}); {_own_numbers(graph)}"
        )
        return Shrunk(graph, Precision.NONE.value, reason)
    return Shrunk(made, applied)


def weights_of(graph: bytes) -> dict[str, int]:
    """The bytes of a graph's weight tensors (those of two or more values) by element type."""
    import onnx

    found: Counter[str] = Counter()
    model = onnx.load_from_string(graph)
    for tensor in _weights(model.graph):
        array = onnx.numpy_helper.to_array(tensor)
        if array.size > 1:
            found[onnx.TensorProto.DataType.Name(tensor.data_type)] += array.nbytes
    return dict(sorted(found.items()))


def numbers_within(graph: bytes) -> dict[str, int]:
    """Operators that hold numbers as attributes (trees, linear models, scalers), by how many there are."""
    import onnx

    found: Counter[str] = Counter()
    for node in onnx.load_from_string(graph).graph.node:
        if node.domain == "ai.onnx.ml" and any(len(item.floats) > 0 for item in node.attribute):
            found[node.op_type] += 1
    return dict(sorted(found.items()))


def _own_numbers(graph: bytes) -> str:
    held = ", ".join(numbers_within(graph))
    return f"its numbers lie in {held}, which ONNX keeps as float32" if held else "it has no float32 weights"


def _weights(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for item in node.attribute:
            if node.op_type == "Constant" and item.name == "value":
                yield item.t
            if item.HasField("g"):
                yield from _weights(item.g)


def _typed(graph: bytes) -> bytes:
    """The graph with the type of every value written down as ONNX Runtime infers it: ONNX's own inference stops at the
    operators of classical models, and the converters pass over what has no type."""
    import onnx
    import onnxruntime as ort

    model = onnx.load_from_string(graph)
    told = {item.name for item in (*model.graph.output, *model.graph.value_info)}
    inner = [name for node in model.graph.node for name in node.output if name and name not in told]
    probe = onnx.load_from_string(graph)
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    wanted = set(inner)
    for item in session.get_outputs():
        element = _ELEMENTS.get(item.type)
        if item.name in wanted and element is not None:
            model.graph.value_info.append(onnx.helper.make_tensor_value_info(item.name, element, None))
    typed: bytes = model.SerializeToString()
    return typed


_ELEMENTS = {"tensor(float)": 1, "tensor(int32)": 6, "tensor(int64)": 7, "tensor(bool)": 9, "tensor(double)": 11}


def _halved(graph: bytes) -> bytes:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    made = convert_float_to_float16(onnx.load_from_string(graph), keep_io_types=True, disable_shape_infer=True)
    return _loadable(made.SerializeToString())


def _quantised(graph: bytes, folder: Path, calibration: Sequence[Feed]) -> bytes:
    import onnxruntime as ort
    from onnxruntime.quantization import QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    ort.set_default_logger_severity(3)  # its calibration opens sessions of its own, which would warn
    source, ready, made = folder / "typed.onnx", folder / "ready.onnx", folder / "made.onnx"
    source.write_bytes(graph)
    # What is not inferred is left as it is: the types are in the graph already.
    quant_pre_process(str(source), str(ready), skip_optimization=True, skip_symbolic_shape=True)
    more = {"DefaultTensorType": _FLOAT}
    if calibration:
        reader = _Reader(calibration)
        quantize_static(str(ready), str(made), reader, op_types_to_quantize=list(_STATIC), extra_options=more)
    else:
        quantize_dynamic(str(ready), str(made), weight_type=QuantType.QInt8, extra_options=more)
    return _loadable(made.read_bytes())


class _Reader:
    """Calibration rows as ONNX Runtime asks for them."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._feeds = feeds
        self.rewind()

    def get_next(self) -> Feed | None:
        return next(self._left, None)

    def rewind(self) -> None:
        self._left = iter(self._feeds)

    def __iter__(self) -> _Reader:
        return self

    def __next__(self) -> Feed:
        return next(self._left)


def batches(feed: Feed) -> list[Feed]:
    """One feed in small ones, as calibration takes them."""
    count = len(next(iter(feed.values())))
    return [{name: rows[at : at + _BATCH] for name, rows in feed.items()} for at in range(0, count, _BATCH)]


def _loadable(graph: bytes) -> bytes:
    """The graph without the types of passage, if ONNX Runtime loads it."""
    import onnx
    import onnxruntime as ort

    model = onnx.load_from_string(graph)
    del model.graph.value_info[:]
    graph = model.SerializeToString()

    options = ort.SessionOptions()
    options.log_severity_level = 3
    ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return graph
