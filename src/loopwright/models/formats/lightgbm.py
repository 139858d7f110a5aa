"""LightGBM inside skl2onnx: its converter, and trees whose splits survive the change to float32 exactly.

ONNX holds a tree's thresholds as float32 and LightGBM as float64. Rounding a threshold to the nearest float32 moves it
past values that stood on its other side. Rounding it down does not: for a float32 value x and a float64 threshold t,
x <= t if and only if x <= the largest float32 that is not above t. So the trees are rewritten with thresholds rounded
down before they are converted, and every float32 input then takes the same path through both.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from loopwright.core import Invalid

if TYPE_CHECKING:
    import numpy as np

_MISSING_NONE, _MISSING_NAN = 0, 2
_CATEGORICAL, _DEFAULT_LEFT = 1, 2


def is_lightgbm(model: Any) -> bool:
    """Whether an estimator is one of LightGBM's scikit-learn classes."""
    return any(kind.__module__.startswith("lightgbm") for kind in type(model).__mro__)


def register_lightgbm() -> None:
    """Tell skl2onnx how to convert LGBMClassifier and LGBMRegressor. Idempotent; nothing where LightGBM is absent."""
    try:
        from lightgbm import LGBMClassifier, LGBMRegressor
        from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm
    except ImportError:
        return
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes,
        calculate_linear_regressor_output_shapes,
    )

    update_registered_converter(
        LGBMClassifier,
        "LightGbmLGBMClassifier",
        calculate_linear_classifier_output_shapes,
        convert_lightgbm,
        options={"nocl": [True, False], "zipmap": [True, False, "columns"]},
    )
    update_registered_converter(
        LGBMRegressor,
        "LightGbmLGBMRegressor",
        calculate_linear_regressor_output_shapes,
        convert_lightgbm,
        options={"split": None},
    )


def with_float32_splits(model: Any) -> tuple[Any, list[Any]]:
    """A shallow copy of a model in which each LightGBM part has thresholds that float32 holds exactly, and those parts.

    Raises:
        Invalid: a LightGBM part was fitted on pandas categories, which exist outside the model.
    """
    if is_lightgbm(model):
        changed = _rewritten(model)
        return changed, [changed]
    if not hasattr(model, "steps"):
        return model, []
    parts: list[Any] = []
    changed = copy.copy(model)
    changed.steps = []
    for name, step in model.steps:
        new, found = with_float32_splits(step) if not isinstance(step, str) and step is not None else (step, [])
        changed.steps.append((name, new))
        parts.extend(found)
    return (changed, parts) if parts else (model, parts)


def refuse_pandas_categories(booster: Any, name: str) -> None:
    """Raises:
    Invalid: the booster was fitted on pandas categories.
    """
    if getattr(booster, "pandas_categorical", None):
        raise Invalid(
            f"{name} was fitted on pandas columns of type category, whose codes no bundle can carry",
            next_step="put an OrdinalEncoder before it in a Pipeline, so that the codes are part of the model",
        )


def _rewritten(model: Any) -> Any:
    from lightgbm import Booster

    booster = model.booster_
    refuse_pandas_categories(booster, type(model).__name__)
    text = booster.model_to_string(num_iteration=booster.best_iteration if booster.best_iteration > 0 else -1)
    changed = copy.copy(model)
    changed._Booster = Booster(model_str=rewrite_text(text))
    changed.boosting_type = "gbdt"  # a forest's leaves are a sum by now, and the converter would divide them again
    return changed


def rewrite_text(text: str) -> str:
    """A model's text with every split rewritten, and without the trees' byte sizes, which no longer hold.

    A random forest's leaves are divided by the number of its rounds, since converters add leaves up.

    Raises:
        Invalid: its leaves hold linear models.
    """
    lines = [line for line in text.split("\n") if not line.startswith("tree_sizes=")]
    if "is_linear=1" in lines:
        raise Invalid(
            "trees with linear models in their leaves have no ONNX form", next_step="train with linear_tree off"
        )
    if "average_output" in lines:
        lines = _averaged(lines)
    threshold_at = -1
    for position, line in enumerate(lines):
        if line.startswith("threshold="):
            threshold_at = position
        elif line.startswith("decision_type=") and threshold_at >= 0:
            lines[threshold_at], lines[position] = _rewrite_splits(lines[threshold_at], line)
            threshold_at = -1
    return "\n".join(lines)


def _averaged(lines: list[str]) -> list[str]:
    each = next((int(line.split("=")[1]) for line in lines if line.startswith("num_tree_per_iteration=")), 1)
    rounds = max(1, sum(line.startswith("Tree=") for line in lines) // each)

    def divided(line: str) -> str:
        name, _, values = line.partition("=")
        return f"{name}=" + " ".join(repr(float(value) / rounds) for value in values.split(" "))

    kept = [line for line in lines if line != "average_output"]
    return [divided(line) if line.startswith("leaf_value=") else line for line in kept]


def _rewrite_splits(thresholds: str, decisions: str) -> tuple[str, str]:
    """The two lines of one tree with float32 thresholds, and with the path of a missing value written out.

    A split that saw no missing value in training (`missing type none`) treats NaN as 0.0; the converter reads only the
    default direction, so that direction is set to where 0.0 goes.
    """
    import numpy as np

    if thresholds == "threshold=":
        return thresholds, decisions
    values = np.array(thresholds.removeprefix("threshold=").split(" "), dtype=np.float64)
    kinds = np.array(decisions.removeprefix("decision_type=").split(" "), dtype=np.int64)
    numeric = (kinds & _CATEGORICAL) == 0
    missing = (kinds >> 2) & 3
    none = numeric & (missing == _MISSING_NONE)
    goes_left = np.where(values >= 0.0, _DEFAULT_LEFT, 0)
    kinds = np.where(none, (_MISSING_NAN << 2) | goes_left, kinds)
    values = np.where(numeric, round_down(values), values)
    return (
        "threshold=" + " ".join(repr(float(value)) for value in values),
        "decision_type=" + " ".join(str(int(kind)) for kind in kinds),
    )


def round_down(values: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The largest float32 that is not above each value, as float64."""
    import numpy as np

    with np.errstate(over="ignore"):
        near = values.astype(np.float32)
    above = near.astype(np.float64) > values
    near[above] = np.nextafter(near[above], np.float32(-np.inf))
    return near.astype(np.float64)
