"""A torch module as a predictor of its own: weights from safetensors, run as it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from loopwright.models import CustomPredictor


class Scorer(CustomPredictor):
    """A linear layer over an embedding."""

    def load(self, folder: Path) -> None:
        self.layer = torch.nn.Linear(6, 1)
        self.layer.load_state_dict(load_file(folder / "model.safetensors"))

    def predict(self, columns: Mapping[str, Any]) -> Mapping[str, Any]:
        with torch.inference_mode():
            return {"value": self.layer(torch.tensor(columns["embedding"])).numpy().reshape(-1)}
