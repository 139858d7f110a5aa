"""LitServe with the model behind it: litserve_app.py PORT."""

from __future__ import annotations

import sys
from typing import Any

import litserve
import numpy as np
from scoring import BATCH, Scorer


class Served(litserve.LitAPI):
    """Rows in, probabilities out."""

    def setup(self, device: str) -> None:
        """Open the model, in LitServe's worker process."""
        self.scorer = Scorer()

    def decode_request(self, request, **_: Any) -> Any:  # type: ignore[no-untyped-def]
        """The rows; LitServe would check a body against a type of `request`."""
        return np.asarray(request["rows"], dtype=np.float32)

    # Called only where `max_batch_size` is set.
    def batch(self, inputs: list[Any]) -> Any:
        """The rows of several requests in one matrix."""
        self.ends = np.cumsum([len(rows) for rows in inputs])[:-1]
        return np.concatenate(inputs)

    def predict(self, x: Any, **_: Any) -> Any:
        """Their probabilities."""
        return self.scorer(x)

    def unbatch(self, output: Any) -> Any:
        """Each request's part."""
        return np.split(output, self.ends)

    def encode_response(self, output: Any, **_: Any) -> Any:
        """As JSON."""
        return {"probability": output.tolist()}


if __name__ == "__main__":
    api = Served(max_batch_size=BATCH, batch_timeout=0.001) if BATCH else Served()
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
