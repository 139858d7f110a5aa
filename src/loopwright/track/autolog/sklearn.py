"""scikit-learn: fits of estimators, pipelines and searches, and cross-validations."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

from loopwright.track.autolog.calls import Training
from loopwright.track.autolog.contract import AUTOLOG, Patches
from loopwright.track.autolog.guarding import quietly
from loopwright.track.autolog.logs import TrainingLog
from loopwright.track.autolog.rows import sample_frame, shape_of
from loopwright.track.autolog.scoring import Rows, score
from loopwright.track.autolog.searches import log_folds, log_search

_MAX_NODES = 100_000
_MAX_KEPT_NUMBERS = 1_000_000

# What is said of a fitted estimator: the log, the estimator, the rows it was fitted on, and the seconds that took.
Tell = Callable[[TrainingLog, Any, Rows, float], None]


class ScikitLearn:
    """Whatever derives from scikit-learn's BaseEstimator and can predict; also classes that are defined later.

    Classes of libraries with an integration of their own are left to it. Transformers are no trainings.
    """

    modules = ("sklearn.base", "sklearn.model_selection._validation")

    def patch(self, module: ModuleType, patches: Patches) -> None:
        """See Integration."""
        if module.__name__ == "sklearn.base":
            _watch_classes(module.BaseEstimator, patches)
        else:
            _watch_validation(module, patches)


AUTOLOG.register("sklearn")(ScikitLearn())


def _watch_classes(base: Any, patches: Patches) -> None:
    """Put a hook around the `fit` of each class, now and when one is defined."""
    others = {
        name.partition(".")[0] for other in AUTOLOG.names() if other != "sklearn" for name in AUTOLOG.get(other).modules
    }

    def watch(kind: type) -> None:
        if "fit" in vars(kind) and kind.__module__.partition(".")[0] not in others:
            patches.wrap([(kind, "fit")], _fit)

    def init_subclass(kind: Any, /, **kwargs: Any) -> None:
        super(base, kind).__init_subclass__(**kwargs)
        with quietly(f"trainings of {kind.__name__}"):
            watch(kind)

    for kind in _below(base):
        watch(kind)
    patches.put(base, "__init_subclass__", classmethod(init_subclass))


def _below(base: Any) -> set[Any]:
    found: set[Any] = set()
    waiting = [base]
    while waiting:
        for kind in waiting.pop().__subclasses__():
            if kind not in found:
                found.add(kind)
                waiting.append(kind)
    return found


def _watch_validation(module: ModuleType, patches: Patches) -> None:
    """A cross-validation is one training; the fits of its folds are parts of it."""
    face = sys.modules.get("sklearn.model_selection", module)
    patches.wrap([(module, "cross_validate"), (face, "cross_validate")], _cross_validate)
    for name in ("_fit_and_predict", "_incremental_fit_estimator", "_fit_and_score"):
        patches.silence([(module, name)])


def _fit(training: Training) -> Iterator[None]:
    if _is_worth_it(training.args[0]):
        yield from watch_fit(training)


def tell_fitted(log: TrainingLog, estimator: Any, rows: Rows, fit_s: float) -> None:
    """Log what can be said of a fitted estimator, and keep it."""
    with quietly("training metrics"):
        score(log, estimator, rows, fit_s)
    best = estimator
    if hasattr(estimator, "cv_results_"):
        with quietly("the results of a search"):
            log_search(log, estimator)
        best = getattr(estimator, "best_estimator_", None)
    if log.options.log_models and best is not None:
        with quietly("the model"):
            keep_model(log, best, rows.inputs)


def watch_fit(training: Training, tell: Tell = tell_fitted) -> Iterator[None]:
    """Record the `fit` of an estimator: what it is, how long it took, and what `tell` says of it afterwards."""
    estimator = training.args[0]
    log = training.begin(type(estimator).__name__, names_of(estimator))
    if log is None:
        return
    with quietly("params"):
        log.params(params_of(estimator))
    with quietly("the size of the training data"):
        log.params(size_of(training.argument("X")))
    began = time.perf_counter()
    yield
    fit_s = time.perf_counter() - began
    log.metrics({"fit_seconds": fit_s})
    rows = Rows(training.argument("X"), training.argument("y"), training.argument("sample_weight"))
    tell(log, estimator, rows, fit_s)


def keep_model(log: TrainingLog, estimator: Any, inputs: Any) -> None:
    """Keep an estimator as a bundle, where making one does not take long."""
    size = _weight(estimator)
    if size > _MAX_NODES:
        log.model_kept("", f"a bundle of its {size:,} nodes takes long to make; use build_bundle")
        return
    log.bundle(estimator, sample_frame(inputs))


def names_of(estimator: Any) -> dict[str, str]:
    """The tags that name an estimator's class."""
    kind = type(estimator)
    return {"estimator_name": kind.__name__, "estimator_class": f"{kind.__module__}.{kind.__qualname__}"}


def params_of(estimator: Any) -> dict[str, Any]:
    """The estimator's params with those of its parts; of a search its own and its candidate's."""
    searching = _is_search(estimator)
    found = estimator.get_params(deep=not searching)
    if searching:
        parts: Mapping[str, Any] = estimator.estimator.get_params(deep=True)
        found |= {f"estimator__{key}": value for key, value in parts.items() if not hasattr(value, "fit")}
    return {key: value for key, value in found.items() if key not in ("steps", "transformers", "estimators")}


def size_of(inputs: Any) -> dict[str, Any]:
    """How many rows and columns there are to train on."""
    return dict(zip(("training_rows", "training_columns"), shape_of(inputs), strict=False))


def _is_worth_it(estimator: Any) -> bool:
    """Whether this is a model or a search for one: something that answers, and no mere transformer."""
    return hasattr(estimator, "predict") or hasattr(estimator, "fit_predict") or _is_search(estimator)


def _is_search(estimator: Any) -> bool:
    return all(hasattr(estimator, name) for name in ("estimator", "cv", "refit"))


def _weight(estimator: Any) -> int:
    """About how many nodes its graph has: of trees, support vectors, or kept rows; 0 where it is small."""
    parts = [estimator, *(step for _, step in getattr(estimator, "steps", ()))]
    return sum(_nodes(part) for part in parts)


def _nodes(part: Any) -> int:
    count = 0
    trees = getattr(part, "estimators_", None)
    if trees is not None:
        flat = trees.ravel() if hasattr(trees, "ravel") else trees
        count += sum(int(getattr(getattr(tree, "tree_", None), "node_count", 0)) for tree in flat)
    count += int(getattr(getattr(part, "tree_", None), "node_count", 0))
    for rounds in getattr(part, "_predictors", ()):
        count += sum(len(getattr(tree, "nodes", ())) for tree in rounds)
    kept = getattr(part, "_fit_X", None)
    if kept is None:
        kept = getattr(part, "support_vectors_", None)
    many = int(getattr(kept, "size", 0)) > _MAX_KEPT_NUMBERS
    return count + (_MAX_NODES + 1 if many else 0)


def _cross_validate(training: Training) -> Iterator[None]:
    estimator = training.argument("estimator")
    log = training.begin(f"cross_validate {type(estimator).__name__}", names_of(estimator))
    if log is None:
        return
    with quietly("params"):
        log.params(params_of(estimator))
        log.params(size_of(training.argument("X")))
    yield
    log_folds(log, training.result)
