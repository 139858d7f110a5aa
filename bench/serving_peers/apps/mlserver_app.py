"""MLServer's own runtime interface, with the model behind it."""

from __future__ import annotations

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from scoring import Scorer


class Runtime(MLModel):
    """One tensor in, one tensor out."""

    async def load(self) -> bool:
        """Open the model."""
        self.scorer = Scorer()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """The probabilities of the rows of the request's tensor."""
        matrix = NumpyCodec.decode_input(payload.inputs[0])
        output = NumpyCodec.encode_output("probability", self.scorer(matrix))
        return InferenceResponse(id=payload.id, model_name=self.name, outputs=[output])
