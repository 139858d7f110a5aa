"""LightGBM: `train` and `cv`, and the classes for scikit-learn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from loopwright.track.autolog.boosting import Curves, log_importance
from loopwright.track.autolog.calls import Training
from loopwright.track.autolog.contract import AUTOLOG, Patches
from loopwright.track.autolog.guarding import quietly
from loopwright.track.autolog.logs import TrainingLog
from loopwright.track.autolog.sklearn import watch_fit

MODEL_FILE = "model/lightgbm.txt"
_AFTER_EVALUATION = 20  # LightGBM's own recorder stands here: before early stopping, which raises


class LightGBM:
    """`lightgbm.train`, `lightgbm.cv`, and the `fit` of LightGBM's classes for scikit-learn."""

    modules = ("lightgbm",)

    def patch(self, module: ModuleType, patches: Patches) -> None:
        """See Integration."""
        patches.wrap([(module.engine, "train"), (module, "train"), (module.sklearn, "train")], _train, joins=True)
        patches.wrap([(module.engine, "cv"), (module, "cv")], _cv)
        for name in ("LGBMModel", "LGBMClassifier", "LGBMRegressor", "LGBMRanker"):
            patches.wrap([(getattr(module.sklearn, name), "fit")], watch_fit)


AUTOLOG.register("lightgbm")(LightGBM())


def _train(training: Training) -> Iterator[None]:
    alone = not training.inside
    log = training.begin("lightgbm.train")
    if log is None:
        return
    curves = Curves(log)
    training.give("callbacks", [*(training.argument("callbacks") or ()), _recorder(curves)])
    if alone:
        _log_params(log, training)
    began = time.perf_counter()
    yield
    curves.end()
    if alone:
        log.metrics({"fit_seconds": time.perf_counter() - began})
    tell_booster(log, training.result, training.argument("train_set"))


def _cv(training: Training) -> Iterator[None]:
    log = training.begin("lightgbm.cv")
    if log is None:
        return
    curves = Curves(log)
    training.give("callbacks", [*(training.argument("callbacks") or ()), _recorder(curves)])
    _log_params(log, training)
    yield
    curves.end()


def _log_params(log: TrainingLog, training: Training) -> None:
    with quietly("params"):
        rounds = training.argument("num_boost_round", 100)
        log.params({**(training.argument("params") or {}), "num_boost_round": rounds})


def _recorder(curves: Curves) -> Callable[[Any], None]:
    """A callback of LightGBM."""

    def record(env: Any) -> None:
        with quietly("a metric of an iteration"):
            values: dict[str, Any] = {}
            for data, metric, value, _, *deviation in env.evaluation_result_list or ():
                values[f"{data}-{metric}"] = value
                if deviation:
                    values[f"{data}-{metric}-stdv"] = deviation[0]
            if values:
                curves.take(env.iteration, values)

    record.order = _AFTER_EVALUATION  # type: ignore[attr-defined]  # where LightGBM reads it
    record.before_iteration = False  # type: ignore[attr-defined]  # where LightGBM reads it
    return record


def tell_booster(log: TrainingLog, booster: Any, train_set: Any) -> None:
    """Log what can be said of trained trees, and keep them as LightGBM's own text."""
    with quietly("the best iteration"):
        if booster.best_iteration > 0:
            log.metrics({"best_iteration": booster.best_iteration})
            log.metrics(
                {
                    f"best_{data}-{metric}": value
                    for data, scores in booster.best_score.items()
                    for metric, value in scores.items()
                }
            )
    with quietly("the size of the training data"):
        log.params({"training_rows": train_set.num_data(), "training_columns": train_set.num_feature()})
    kinds = {kind: booster.feature_importance(kind).tolist() for kind in ("gain", "split")}
    log_importance(log, booster.feature_name(), kinds)
    if log.options.log_models:
        with quietly("the model"):
            log.text(booster.model_to_string(), MODEL_FILE)
            log.model_kept(MODEL_FILE)
