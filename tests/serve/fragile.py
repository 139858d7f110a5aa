"""A model in Python that ends its process when it is asked for too much."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from loopwright.models import CustomPredictor


class Fragile(CustomPredictor):
    """Adds 1 to `x`; above 100 its process is gone."""

    def predict(self, columns: Mapping[str, Any]) -> Mapping[str, Any]:
        if (columns["x"] > 100).any():
            os._exit(7)
        return {"value": columns["x"] + 1}
