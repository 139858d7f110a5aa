"""A model of images in Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loopwright.models import CustomPredictor


class Brightness(CustomPredictor):
    """The mean of each image."""

    def predict(self, columns: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"value": columns["image"].mean(axis=(1, 2, 3))}
