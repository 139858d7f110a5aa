"""A BentoML service with the model behind it."""

import bentoml
import numpy as np
from scoring import BATCH, Scorer


@bentoml.service(workers=1, metrics={"enabled": False}, logging={"access": {"enabled": False}}, traffic={"timeout": 60})
class Served:
    """Rows in, probabilities out."""

    def __init__(self) -> None:
        self.scorer = Scorer()

    @bentoml.api(batchable=bool(BATCH), max_batch_size=BATCH or 100, max_latency_ms=1000)
    def predict(self, rows: np.ndarray) -> np.ndarray:
        """The probabilities of rows."""
        return np.asarray(self.scorer(rows))
