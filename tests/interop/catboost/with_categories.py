"""A CatBoost model with categories, as a predictor of its own; its source goes into the bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import catboost

from loopwright.models import CustomPredictor


class WithCategories(CustomPredictor):
    """A CatBoost model with categories, run as it is."""

    def load(self, folder: Path) -> None:
        self.model = catboost.CatBoostClassifier().load_model(str(folder / "model.cbm"))

    def predict(self, columns: Any) -> Any:
        rows = list(zip(columns["x"].tolist(), columns["carrier"].tolist(), strict=True))
        return {"label": self.model.predict(rows), "probability": self.model.predict_proba(rows)[:, 1]}
