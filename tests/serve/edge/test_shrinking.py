"""Graphs in fewer bits: weights shrink where there are any, and a graph without is left as it is, and that is said."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from tests.serve.conftest import adding_bundle
from tests.serve.edge.conftest import Network

from loopwright.models import Bundle
from loopwright.serve.edge.model import Precision
from loopwright.serve.edge.shrinking import batches, numbers_within, shrink, weights_of

pytestmark = pytest.mark.slow


def graph_of(bundle: Bundle) -> bytes:
    return (bundle.folder / "model.onnx").read_bytes()


def operators(graph: bytes) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load_from_string(graph).graph.node)


def types(graph: bytes) -> list[tuple[str, str]]:
    session = ort.InferenceSession(graph)
    return [(item.name, item.type) for item in (*session.get_inputs(), *session.get_outputs())]


def matrix(network: Network) -> dict[str, np.ndarray[Any, Any]]:
    return {"features": network.rows.to_numpy().astype(np.float32)}


def test_a_network_shrinks_to_a_third_in_int8(network: Network, tmp_path: Path) -> None:
    own = graph_of(network.bundle)
    made = shrink(own, Precision.INT8, tmp_path)
    assert made.applied == "int8 (dynamic)"
    assert operators(made.graph)["MatMulInteger"] == 3
    assert weights_of(made.graph)["INT8"] * 4 > weights_of(own)["FLOAT"] * 0.9
    assert len(made.graph) < len(own) / 2
    assert types(made.graph) == types(own)


def test_calibration_rows_make_it_static(network: Network, tmp_path: Path) -> None:
    own = graph_of(network.bundle)
    made = shrink(own, Precision.INT8, tmp_path, batches(matrix(network)))
    assert made.applied == "int8 (static)"
    assert operators(made.graph)["DynamicQuantizeLinear"] == 0
    assert operators(made.graph)["QuantizeLinear"] >= 3  # the activations too, not the weights alone
    assert types(made.graph) == types(own)


def test_half_precision_halves_the_weights_and_keeps_the_types_of_inputs(network: Network, tmp_path: Path) -> None:
    own = graph_of(network.bundle)
    made = shrink(own, Precision.FP16, tmp_path)
    assert made.applied == "fp16"
    assert weights_of(made.graph)["FLOAT16"] * 2 == weights_of(own)["FLOAT"]
    assert types(made.graph) == types(own)


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.FP16])
def test_trees_have_nothing_to_shrink_and_stay_byte_for_byte(
    bundle: Bundle, precision: Precision, tmp_path: Path
) -> None:
    made = shrink(graph_of(bundle), precision, tmp_path)
    assert made.graph == graph_of(bundle)
    assert made.applied == "none"
    assert "TreeEnsembleClassifier" in made.reason
    assert numbers_within(made.graph)["TreeEnsembleClassifier"] == 1


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.FP16])
def test_a_graph_that_would_not_be_smaller_stays(precision: Precision, tmp_path: Path) -> None:
    own = graph_of(adding_bundle(1.0, tmp_path / "adding"))
    made = shrink(own, precision, tmp_path)
    assert made.graph == own
    assert made.reason
    assert not made.reason.endswith("; ")
