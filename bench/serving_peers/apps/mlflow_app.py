"""The model as MLflow keeps one made of code. `mlflow_app.py FOLDER` writes that folder."""

from __future__ import annotations

import sys
from typing import Any

import mlflow
from mlflow.pyfunc import PythonModel
from scoring import Scorer


class Served(PythonModel):  # type: ignore[misc]
    """Rows in, probabilities out."""

    def load_context(self, context: Any) -> None:
        """Open the model."""
        self.scorer = Scorer()

    def predict(self, context: Any, model_input, params: Any = None) -> Any:  # type: ignore[no-untyped-def]
        """The probabilities of rows; MLflow would check each request against a type of `model_input`."""
        return self.scorer(model_input)


if __name__ == "__main__":
    mlflow.pyfunc.save_model(sys.argv[1], python_model=__file__, pip_requirements=["onnxruntime"])
else:
    mlflow.models.set_model(Served())
