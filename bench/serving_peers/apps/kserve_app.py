"""KServe's Python server with the model behind it: kserve_app.py HTTP_PORT GRPC_PORT."""

from __future__ import annotations

import sys
from typing import Any

from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from scoring import Scorer


class Served(Model):
    """One tensor in, one tensor out, over V2 in JSON, in binary form and by gRPC."""

    def load(self) -> bool:
        """Open the model."""
        self.scorer = Scorer()
        self.ready = True
        return True

    async def predict(self, payload: InferRequest, headers: Any = None, response_headers: Any = None) -> InferResponse:
        """The probabilities of the rows of the request's tensor."""
        found = self.scorer(payload.inputs[0].as_numpy())
        output = InferOutput("probability", list(found.shape), "FP32")
        output.set_data_from_numpy(found, binary_data=payload.from_grpc or payload.use_binary_outputs)
        return InferResponse(payload.id or "", self.name, [output], use_binary_outputs=payload.use_binary_outputs)


if __name__ == "__main__":
    served = Served("bench")
    served.load()
    ModelServer(
        http_port=int(sys.argv[1]), grpc_port=int(sys.argv[2]), workers=1, max_threads=1, enable_docs_url=False,
        enable_latency_logging=False, access_log_format="",
    ).start([served])  # fmt: skip
