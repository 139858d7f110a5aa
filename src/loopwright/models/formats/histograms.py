"""scikit-learn's histogram gradient boosting behind other steps: splits that stand on values of the training data.

Its thresholds are themselves values that training saw (quantiles of a feature), and a row with that value goes left.
A graph takes the row as float32 and computes the steps before the trees in float32, so the value may arrive a little
above its threshold, and would go right. Each threshold is therefore moved up by a few times what float32 changes in
its feature, measured on the sample: what stood on it stays on its side, and there is hardly anything just above.
Trees that stand alone need no mend: rows and thresholds are rounded alike.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

_TIMES = 2
_STEPS = 2


def is_histogram(model: Any) -> bool:
    """Whether a model is a pipeline that ends in such an estimator."""
    steps: list[Any] = getattr(model, "steps", None) or []
    names = ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor")
    return len(steps) > 1 and type(steps[-1][1]).__name__ in names


def with_margins(model: Any, rows: Any, narrowed: Any) -> Any:
    """A shallow copy of such a pipeline whose thresholds have margins.

    Args:
        rows, narrowed: the sample, as the model takes it; as it is, and as float32 holds it.
    """
    last = model.steps[-1][1]
    margins = _margins(model[:-1].transform(rows), model[:-1].transform(narrowed))
    changed, trees = copy.copy(model), copy.copy(last)
    trees._predictors = [[_moved(tree, margins) for tree in stage] for stage in last._predictors]
    changed.steps = [*model.steps[:-1], (model.steps[-1][0], trees)]
    return changed


def _margins(wide: Any, narrow: Any) -> Array:
    """For each feature: some times the largest change, and two float32 steps of what is usual in it."""
    import numpy as np

    left, right = np.asarray(wide, dtype=np.float64), np.asarray(narrow, dtype=np.float64)
    change = np.nan_to_num(np.abs(left - right), nan=0.0, posinf=0.0).max(axis=0)
    usual = np.median(np.nan_to_num(np.abs(left), nan=0.0, posinf=0.0), axis=0)
    return np.asarray(_TIMES * change + _STEPS * float(np.finfo(np.float32).eps) * usual)


def _moved(tree: Any, margins: Array) -> Any:
    import numpy as np

    changed = copy.copy(tree)
    changed.nodes = nodes = tree.nodes.copy()
    split = (nodes["is_leaf"] == 0) & (nodes["is_categorical"] == 0) & np.isfinite(nodes["num_threshold"])
    nodes["num_threshold"][split] += margins[nodes["feature_idx"][split]]
    return changed
