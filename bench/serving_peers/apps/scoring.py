"""The model as every peer's program has it: the same ONNX file as ours, in onnxruntime, on one thread."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import onnxruntime

BATCH = int(os.environ.get("BENCH_BATCH", "0"))
"""How many requests the peer's own batching may put together; 0 for none."""


class Scorer:
    """Probabilities for rows of numbers."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["BENCH_MODEL"], options)

    def __call__(self, rows: Any) -> Any:
        """float32[rows] for what numpy takes as a matrix."""
        matrix = np.asarray(rows, dtype=np.float32)
        return self.session.run(["probability"], {"features": matrix})[0]
