"""What we build on: torch's exporter makes a graph of ONNX's own operators that ONNX Runtime answers alike."""

from __future__ import annotations

import io

import numpy as np
import onnxruntime
import torch


def test_the_exporter_makes_a_graph_for_any_number_of_rows() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1)).eval()
    program = torch.onnx.export(
        model,
        (torch.zeros(2, 3),),
        input_names=["rows"],
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    file = io.BytesIO()
    file.write(program.model_proto.SerializeToString())
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    for count in (1, 2, 50):
        rows = np.random.default_rng(count).normal(size=(count, 3)).astype(np.float32)
        [given] = session.run(None, {"rows": rows})
        np.testing.assert_allclose(given, model(torch.from_numpy(rows)).detach().numpy(), rtol=1e-5, atol=1e-6)
