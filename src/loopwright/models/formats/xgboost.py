"""XGBoost: native boosters and its scikit-learn classes, read from the model's own JSON.

XGBoost splits on `value < threshold` in float32, which ONNX's tree operator does too, so that every row takes the same
path; leaf values are summed in float32 by both.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from loopwright.core import DType, Invalid
from loopwright.models.formats.contract import FORMATS, Converted
from loopwright.models.formats.graphs import name_outputs
from loopwright.models.formats.trees import Link, Trees, check_features, matrix_of, scored_graph, tree_graph
from loopwright.models.model import Input, Layout, Task

if TYPE_CHECKING:
    import numpy as np
    import onnx
    import polars as pl

    Array = np.ndarray[Any, Any]

_LINKS = {
    "binary:logistic": Link.LOGISTIC,
    "reg:logistic": Link.LOGISTIC,
    "multi:softprob": Link.SOFTMAX,
    "multi:softmax": Link.SOFTMAX,
    "count:poisson": Link.EXP,
    "reg:gamma": Link.EXP,
    "reg:tweedie": Link.EXP,
    "survival:cox": Link.EXP,
    **{
        f"reg:{name}": Link.IDENTITY
        for name in ("squarederror", "linear", "squaredlogerror", "pseudohubererror", "absoluteerror", "quantileerror")
    },
    **{f"rank:{name}": Link.IDENTITY for name in ("pairwise", "ndcg", "map")},
}


class XGBoost:
    """A Booster, or XGBClassifier, XGBRegressor, XGBRanker and their random forests."""

    def accepts(self, model: Any) -> bool:
        return is_xgboost(model)

    def convert(self, model: Any, sample: pl.DataFrame, inputs: tuple[Input, ...], task: Task | None) -> Converted:
        graph, found, booster, names = xgboost_graph(model, len(inputs), task)
        check_numbers(inputs, "XGBoost")
        check_features(names, len(inputs), inputs)
        classes = classes_of(model, found, booster)
        name_outputs(graph, found, classes)

        def original(rows: pl.DataFrame) -> Mapping[str, Array]:
            return _answers(model, matrix_of(rows, inputs), found, names)

        return Converted(graph, Layout.MATRIX, found, classes, original)


def is_xgboost(model: Any) -> bool:
    """Whether a model is one of XGBoost's own."""
    module = sys.modules.get("xgboost")
    kinds = tuple(kind for kind in (getattr(module, "Booster", None), getattr(module, "XGBModel", None)) if kind)
    return bool(kinds) and isinstance(model, kinds)


def check_numbers(inputs: tuple[Input, ...], library: str) -> None:
    """Raises:
    Invalid: an input is text, or has a shape.
    """
    words = [item.name for item in inputs if item.dtype is DType.STRING or item.shape]
    if words:
        raise Invalid(
            f"{library}'s ONNX form takes numbers, and {', '.join(map(repr, words[:5]))} holds something else",
            next_step="encode text in a scikit-learn Pipeline before the model",
        )


def xgboost_graph(
    model: Any, width: int | None, task: Task | None
) -> tuple[onnx.ModelProto, Task, dict[str, Any], list[str] | None]:
    """The graph of a model, what it answers, the model's own JSON, and its features' names.

    Args:
        width: how many features it is given; None where that is not known.

    Raises:
        Invalid: it is not fitted, or has a part without an ONNX form.
    """
    booster, rounds = _booster(model)
    told = json.loads(bytes(booster.save_raw("json")))["learner"]
    objective = str(told["objective"]["name"])
    link = _LINKS.get(objective)
    if link is None:
        raise Invalid(f"XGBoost's objective {objective!r} has no ONNX form", next_step=f"known: {', '.join(_LINKS)}")
    found = _task(objective)
    if task is not None and task is not found:
        raise Invalid(f"the model is a {found} model, not a {task} one", next_step="leave `task` out")
    targets = max(1, int(told["learner_model_param"]["num_class"]))
    if int(told["learner_model_param"].get("num_target", "1")) > 1:
        raise Invalid("a model of several targets has no ONNX form here", next_step="train one model per target")
    features = int(told["learner_model_param"]["num_feature"])
    if width not in (None, features):
        raise Invalid(
            f"the model takes {features} features, and is given {width}",
            next_step="pass a sample with exactly the model's features, in their order",
        )
    base = _base(told["learner_model_param"]["base_score"], targets, link)
    if told["gradient_booster"]["name"] == "gblinear":
        graph = _linear(told["gradient_booster"], features, targets, base, link, found)
    else:
        graph = tree_graph(_trees(told["gradient_booster"], targets, base, rounds), features, link, found)
    return graph, found, told, booster.feature_names


def classes_of(model: Any, task: Task, told: Mapping[str, Any]) -> tuple[str | int, ...]:
    """The classes in the order of their scores."""
    if task not in (Task.BINARY, Task.MULTICLASS):
        return ()
    named = getattr(model, "classes_", None)
    if named is not None:
        return tuple(item if isinstance(item, str) else int(item) for item in named.tolist())
    return tuple(range(max(2, int(told["learner_model_param"]["num_class"]))))


def _booster(model: Any) -> tuple[Any, int]:
    """The booster, and how many rounds of it answer; 0 for all."""
    from xgboost import Booster
    from xgboost.core import XGBoostError

    if isinstance(model, Booster):
        return model, 0
    missing = model.get_params().get("missing")
    if missing is not None and not math.isnan(missing):
        raise Invalid(
            f"the model takes {missing} for a missing value, which a graph cannot",
            next_step="fit it with missing=NaN, and NaN in the data",
        )
    try:
        booster = model.get_booster()
    except XGBoostError:
        raise Invalid(f"the {type(model).__name__} is not fitted", next_step="call fit() first") from None
    except Exception as error:
        if type(error).__name__ != "NotFittedError":
            raise
        raise Invalid(f"the {type(model).__name__} is not fitted", next_step="call fit() first") from None
    try:
        return booster, int(model.best_iteration) + 1
    except AttributeError:  # no early stopping
        return booster, 0


def _task(objective: str) -> Task:
    if objective.startswith("multi:"):
        return Task.MULTICLASS
    return Task.BINARY if objective == "binary:logistic" else Task.REGRESSION


def _base(text: str, targets: int, link: Link) -> list[float]:
    """The intercept in the space of raw scores; it is written in that of the answers."""
    values = [float(item) for item in text.strip("[]").split(",")]
    if link is Link.LOGISTIC:
        values = [math.log(value / (1.0 - value)) for value in values]
    elif link is Link.EXP:
        values = [math.log(value) for value in values]
    return values * targets if len(values) == 1 else values


def _trees(gradient: Mapping[str, Any], targets: int, base: list[float], rounds: int) -> Trees:
    held = gradient.get("gbtree", gradient)["model"]  # dart keeps its trees one step deeper
    weights = gradient.get("weight_drop") or [1.0] * len(held["trees"])
    groups = held["tree_info"]
    per_round = int(held["gbtree_model_param"].get("num_parallel_tree", "1") or 1) * targets
    last = rounds * per_round if rounds else len(held["trees"])
    trees = Trees(targets, base)
    for tree, group, weight in list(zip(held["trees"], groups, weights, strict=True))[:last]:
        _add_tree(trees, tree, int(group), float(weight))
    if not trees.count:
        trees.add_leaf(0, [(0, 0.0)])
    return trees


def _add_tree(trees: Trees, tree: Mapping[str, Any], target: int, weight: float) -> None:
    if int(tree["tree_param"].get("size_leaf_vector", "0") or 0) > 1:
        raise Invalid(
            "trees with a vector in each leaf have no ONNX form here",
            next_step="train with multi_strategy='one_output_per_tree'",
        )
    if any(tree.get("split_type", ())):
        raise Invalid(
            "a tree splits on categories (enable_categorical), which have no ONNX form here",
            next_step="encode the categories before the model, in a scikit-learn Pipeline",
        )
    left, right = tree["left_children"], tree["right_children"]
    waiting = [0]
    while waiting:
        node = waiting.pop()
        value = float(tree["split_conditions"][node])
        if left[node] == -1:
            trees.add_leaf(node, [(target, value * weight)])
            continue
        trees.add_split(
            node, int(tree["split_indices"][node]), value, left[node], right[node], bool(tree["default_left"][node])
        )
        waiting += [left[node], right[node]]
    trees.end_tree()


def _linear(
    gradient: Mapping[str, Any], width: int, targets: int, base: list[float], link: Link, task: Task
) -> onnx.ModelProto:
    import numpy as np
    from onnx import helper, numpy_helper

    flat = np.array(gradient["model"]["weights"], dtype=np.float32).reshape(width + 1, targets)
    held = [
        numpy_helper.from_array(flat[:-1], "weights"),
        numpy_helper.from_array((flat[-1] + np.array(base, dtype=np.float32)).astype(np.float32), "intercept"),
    ]
    return scored_graph(
        [helper.make_node("Gemm", ["features", "weights", "intercept"], ["raw"])], held, width, targets, link, task
    )


def _answers(model: Any, matrix: Array, task: Task, names: list[str] | None) -> Mapping[str, Array]:
    import numpy as np
    from xgboost import Booster, DMatrix

    if not isinstance(model, Booster):
        if task is Task.REGRESSION:
            return {"value": np.asarray(model.predict(matrix), dtype=np.float64).reshape(-1)}
        label, scores = np.asarray(model.predict(matrix)), np.asarray(model.predict_proba(matrix), dtype=np.float64)
        named = {"probability": scores[:, 1]} if task is Task.BINARY else {"probabilities": scores}
        return {"label": label, **named}
    raw = np.asarray(model.predict(DMatrix(matrix, feature_names=names), output_margin=True), dtype=np.float64)
    if task is Task.MULTICLASS:
        grown = np.exp(raw - raw.max(axis=1, keepdims=True))
        scores = grown / grown.sum(axis=1, keepdims=True)
        return {"label": scores.argmax(axis=1), "probabilities": scores}
    given = np.asarray(model.predict(DMatrix(matrix, feature_names=names)), dtype=np.float64).reshape(-1)
    if task is Task.BINARY:
        return {"label": (given > 0.5).astype(np.int64), "probability": given}
    return {"value": given}


FORMATS.register("xgboost")(XGBoost())
