"""The one place that unpickles, and it lies in the worker: a pickle is a program, and this runs it.

Only for bundles that were built with `allow_pickle=True`; a server never imports this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.models.opening import needs_confinement, opened_file
from loopwright.models.skops_files import untrusted_types

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


def unpickled(path: Path, class_name: str = "") -> Any:
    """The model in a file or folder: of one that pickle, cloudpickle, joblib or skops wrote, this runs whatever its
    maker put there; others are opened by the library that wrote them, whose class `class_name` may name."""
    if path.suffix == ".skops":
        import skops.io

        return skops.io.load(path, trusted=untrusted_types(path))
    if needs_confinement(path):
        return opened_file(path, class_name)
    import joblib

    return joblib.load(path)  # reads plain pickles too


class Unpickled:
    """An object with `predict`, and `predict_proba` where it is a classifier: what scikit-learn's users pickle."""

    def __init__(self, path: Path) -> None:
        self._model = unpickled(path)
        if not hasattr(self._model, "predict"):
            raise TypeError(f"the pickle holds a {type(self._model).__name__}, which has no predict()")

    def predict(self, columns: Mapping[str, Array]) -> Mapping[str, Array]:
        """The estimator's answers, in the convention of its task."""
        import numpy as np

        given = self._given(columns)
        if not hasattr(self._model, "predict_proba"):
            return {
                "value": np.asarray(self._model.predict(given)).reshape(len(next(iter(columns.values()))), -1)[:, 0]
            }
        label, scores = np.asarray(self._model.predict(given)), np.asarray(self._model.predict_proba(given))
        named = {"probability": scores[:, 1]} if scores.shape[1] == 2 else {"probabilities": scores}
        return {"label": label, **named}

    def _given(self, columns: Mapping[str, Array]) -> Any:
        """A frame for a model that was fitted on one, else the bare matrix."""
        import numpy as np
        import polars as pl

        texts = any(values.dtype == object for values in columns.values())
        if texts or hasattr(self._model, "feature_names_in_"):
            return pl.DataFrame({name: _series(values) for name, values in columns.items()})
        return np.stack([np.asarray(values, dtype=np.float64) for values in columns.values()], axis=1)


def _series(values: Array) -> Any:
    return values.tolist() if values.dtype == object else values
