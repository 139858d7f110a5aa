"""What searches and cross-validations of scikit-learn found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loopwright.track.autolog.logs import TrainingLog, as_number


def log_search(log: TrainingLog, search: Any) -> None:
    """Log all candidates as a table, the best as runs of their own, and the very best with the search."""
    results = search.cv_results_
    log.table(_columns(results), "cv_results.parquet")
    if hasattr(search, "best_params_"):
        log.params({f"best_{key}": value for key, value in search.best_params_.items()})
    log.metrics({"best_cv_score": getattr(search, "best_score_", None), "candidates": len(results["params"])})
    rank = next((key for key in results if key.startswith("rank_test_")), "")
    count = len(results["params"])
    order = sorted(range(count), key=lambda at: float(results[rank][at])) if rank else list(range(count))
    for at in order[: log.options.child_runs]:
        _log_candidate(log, search, results, at)


def _log_candidate(log: TrainingLog, search: Any, results: Mapping[str, Any], at: int) -> None:
    shown = ("mean_", "std_", "rank_test_")
    metrics = {key: as_number(values[at]) for key, values in results.items() if key.startswith(shown)}
    tags = {"best": "true"} if at == getattr(search, "best_index_", None) else {}
    log.child(f"candidate {at + 1}", results["params"][at], metrics, tags)


def log_folds(log: TrainingLog, scores: Mapping[str, Any]) -> None:
    """Log a cross-validation: a table of the folds, and the mean and standard deviation of each score."""
    kept = {key: values for key, values in scores.items() if key not in ("estimator", "indices")}
    log.table({"fold": list(range(len(next(iter(kept.values()))))), **_columns(kept)}, "cv_folds.parquet")
    for key, values in kept.items():
        log.metrics({f"cv_{key}_mean": values.mean(), f"cv_{key}_std": values.std()})


def _columns(results: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of a table: masked values are missing, and candidates as a whole are left out."""
    return {
        key: values.tolist() if hasattr(values, "tolist") else list(values)
        for key, values in results.items()
        if key != "params"
    }
