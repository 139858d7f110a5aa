"""XGBoost: `train` and `cv`, and the classes for scikit-learn."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from loopwright.track.autolog.boosting import Curves, log_importance
from loopwright.track.autolog.calls import Training
from loopwright.track.autolog.contract import AUTOLOG, Patches
from loopwright.track.autolog.guarding import quietly
from loopwright.track.autolog.logs import TrainingLog
from loopwright.track.autolog.scoring import Rows, score
from loopwright.track.autolog.sklearn import watch_fit

MODEL_FILE = "model/xgboost.ubj"
_KINDS = ("gain", "weight", "cover")


class XGBoost:
    """`xgboost.train`, `xgboost.cv`, and the `fit` of XGBoost's classes for scikit-learn."""

    modules = ("xgboost",)

    def patch(self, module: ModuleType, patches: Patches) -> None:
        """See Integration."""
        places = [(module.training, "train"), (module, "train")]
        patches.wrap([(module.training, "cv"), (module, "cv")], _cv)
        if hasattr(module, "sklearn"):
            places.append((module.sklearn, "train"))
            for name in ("XGBModel", "XGBClassifier", "XGBRegressor", "XGBRanker", "XGBRFClassifier", "XGBRFRegressor"):
                kind = getattr(module.sklearn, name, None)
                if kind is not None and "fit" in vars(kind):
                    patches.wrap([(kind, "fit")], _fit)
        patches.wrap(places, _train, joins=True)


AUTOLOG.register("xgboost")(XGBoost())


def _train(training: Training) -> Iterator[None]:
    alone = not training.inside
    log = training.begin("xgboost.train")
    if log is None:
        return
    curves = _watch(log, training)
    if alone:
        _log_params(log, training)
    began = time.perf_counter()
    yield
    curves.end()
    if alone:
        log.metrics({"fit_seconds": time.perf_counter() - began})
    tell_booster(log, training.result)


def _cv(training: Training) -> Iterator[None]:
    log = training.begin("xgboost.cv")
    if log is None:
        return
    curves = _watch(log, training)
    _log_params(log, training)
    yield
    curves.end()


def _fit(training: Training) -> Iterator[None]:
    yield from watch_fit(training, _tell_scores)


def _tell_scores(log: TrainingLog, estimator: Any, rows: Rows, fit_s: float) -> None:
    """The model is kept by `_train`, which is called inside."""
    with quietly("training metrics"):
        score(log, estimator, rows, fit_s)


def _log_params(log: TrainingLog, training: Training) -> None:
    with quietly("params"):
        log.params(
            {**dict(training.argument("params") or {}), "num_boost_round": training.argument("num_boost_round", 10)}
        )
        data = training.argument("dtrain")
        log.params({"training_rows": data.num_row(), "training_columns": data.num_col()})


def _watch(log: TrainingLog, training: Training) -> Curves:
    """Give the training a callback that follows it."""
    from xgboost.callback import TrainingCallback

    curves = Curves(log)

    class Recording(TrainingCallback):  # type: ignore[misc]  # XGBoost is not there when types are checked
        """Follows the metrics of all data by iteration."""

        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            """Take the newest values; never end the training."""
            del model
            with quietly("a metric of an iteration"):
                curves.take(epoch, _newest(evals_log))
            return False

    training.give("callbacks", [*(training.argument("callbacks") or ()), Recording()])
    return curves


def _newest(evals_log: Any) -> dict[str, Any]:
    """The last value of each metric; of a cross-validation the mean and the deviation."""
    found: dict[str, Any] = {}
    for data, metrics in evals_log.items():
        for metric, values in metrics.items():
            value = values[-1]
            if isinstance(value, tuple | list):
                found[f"{data}-{metric}"], found[f"{data}-{metric}-stdv"] = value
            else:
                found[f"{data}-{metric}"] = value
    return found


def tell_booster(log: TrainingLog, booster: Any) -> None:
    """Log what can be said of a trained booster, and keep it in XGBoost's own binary JSON."""
    with quietly("the best iteration"):
        best = booster.attr("best_iteration")
        if best is not None:
            log.metrics({"best_iteration": int(best), "best_score": float(booster.attr("best_score"))})
    with quietly("the importance of features"):
        _log_importance(log, booster)
    if log.options.log_models:
        with quietly("the model"):
            log.file(bytes(booster.save_raw("ubj")), MODEL_FILE)
            log.model_kept(MODEL_FILE)


def _log_importance(log: TrainingLog, booster: Any) -> None:
    """A linear booster has weights only, and of several classes several for each feature."""
    kinds: dict[str, dict[str, float]] = {}
    for kind in _KINDS:
        try:
            scores = booster.get_score(importance_type=kind)
        except ValueError:
            continue
        kinds[kind] = {name: sum(value) if isinstance(value, list) else value for name, value in scores.items()}
    names = booster.feature_names or list(dict.fromkeys(name for scores in kinds.values() for name in scores))
    if kinds:
        log_importance(log, names, {kind: [scores.get(name, 0.0) for name in names] for kind, scores in kinds.items()})
