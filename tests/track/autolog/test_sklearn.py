"""scikit-learn's fits, searches and cross-validations record themselves."""

from __future__ import annotations

import inspect
import io
import json
import pickle
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import numpy as np
import polars as pl
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.cluster import DBSCAN, KMeans
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import log_loss, mean_squared_error, roc_auc_score
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

import loopwright as lw
from loopwright.models import Bundle, predict_frame
from loopwright.track import Run
from loopwright.workspace import Workspace

Runs = Callable[[], list[Run]]
Autolog = Callable[..., None]
Program = Callable[..., "subprocess.Popen[str]"]
X, Y = load_breast_cancer(return_X_y=True)
FRAME = load_breast_cancer(as_frame=True).data


def pipeline() -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.5))


def paths(ws: Workspace, run: Run) -> list[str]:
    return [item.path for item in ws.runs.artifacts(run.id)]


def table(ws: Workspace, run: Run, name: str) -> pl.DataFrame:
    return pl.read_parquet(io.BytesIO(ws.runs.artifact(run.id, name)))


def test_a_fit_is_a_finished_run_with_params_tags_and_the_scores_that_sklearn_gives(
    autolog: Autolog, runs: Runs, ws: Workspace
) -> None:
    autolog(log_models=False)
    model = pipeline().fit(X, Y)
    [run] = runs()
    assert lw.active_run() is None
    assert (run.name, run.status, run.experiment) == ("Pipeline", "finished", "default")
    assert run.params["logisticregression__C"] == "0.5"
    assert run.params["standardscaler"] == "StandardScaler"
    assert (run.params["training_rows"], run.params["training_columns"]) == ("569", "30")
    assert run.tags["estimator_class"] == "sklearn.pipeline.Pipeline"
    assert run.tags["loopwright.autolog"] == "sklearn"
    chances = model.predict_proba(X)
    assert run.metrics["training_score"] == run.metrics["training_accuracy_score"] == model.score(X, Y)
    assert run.metrics["training_log_loss"] == pytest.approx(log_loss(Y, chances))
    assert run.metrics["training_roc_auc"] == pytest.approx(roc_auc_score(Y, chances[:, 1]))
    assert run.metrics["fit_seconds"] > 0
    assert paths(ws, run) == ["training_confusion_matrix.json", "training_roc.json"]
    confusion = json.loads(ws.runs.artifact(run.id, "training_confusion_matrix.json"))["data"][0]["z"]
    assert np.trace(confusion) == (model.predict(X) == Y).sum()


@pytest.mark.parametrize("inputs", [X, FRAME, pl.from_numpy(X, [f"c{at}" for at in range(30)])], ids=["np", "pd", "pl"])
def test_the_model_is_kept_as_a_bundle_that_answers_the_same(
    autolog: Autolog, runs: Runs, ws: Workspace, tmp_path: Path, inputs: object
) -> None:
    autolog()
    model = pipeline().fit(inputs, Y)
    [run] = runs()
    assert run.tags["loopwright.autolog.model"] == "bundle"
    for path in paths(ws, run):
        if path.startswith("model/"):
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).write_bytes(ws.runs.artifact(run.id, path))
    bundle = Bundle(tmp_path / "model")
    bundle.verify()
    sample = pl.DataFrame(np.asarray(inputs)[:50], schema=[item.name for item in bundle.signature.inputs])
    assert predict_frame(bundle.predictor(), sample)["label"].to_list() == model.predict(inputs[:50]).tolist()  # type: ignore[index]


def test_what_has_no_safe_form_is_not_kept_and_the_run_says_why(autolog: Autolog, runs: Runs, ws: Workspace) -> None:
    autolog()
    KMeans(3, n_init=1, random_state=0).fit(X)
    [run] = runs()
    assert run.tags["loopwright.autolog.model"].startswith("not kept: ")
    assert not [path for path in paths(ws, run) if path.startswith("model/")]


@pytest.mark.slow
def test_a_model_with_very_many_nodes_is_not_converted(autolog: Autolog, runs: Runs) -> None:
    autolog()
    noise = np.random.default_rng(0)
    RandomForestClassifier(150, max_features=1, random_state=0).fit(
        noise.normal(size=(3000, 5)), noise.integers(0, 2, 3000)
    )
    [run] = runs()
    assert "nodes takes long" in run.tags["loopwright.autolog.model"]


@pytest.mark.parametrize("jobs", [None, 2])
def test_a_search_over_a_pipeline_is_one_run_with_its_best_candidates_below_it(
    autolog: Autolog, runs: Runs, ws: Workspace, jobs: int | None
) -> None:
    autolog(log_models=False)
    with joblib.parallel_config(backend="threading"):
        search = GridSearchCV(pipeline(), {"logisticregression__C": [0.1, 1, 10, 0.01, 5, 7]}, cv=3, n_jobs=jobs)
        search.fit(X, Y)
    top, *parts = runs()
    assert top.name == "GridSearchCV"
    assert top.metrics["best_cv_score"] == search.best_score_
    assert top.params["best_logisticregression__C"] == str(search.best_params_["logisticregression__C"])
    assert top.params["estimator__logisticregression__C"] == "0.5"
    assert len(parts) == 5
    assert {(part.parent, part.kind, part.status) for part in parts} == {(top.id, "trial", "finished")}
    assert (
        sorted(part.metrics["rank_test_score"] for part in parts) == sorted(search.cv_results_["rank_test_score"])[:5]
    )
    [best] = [part for part in parts if part.tags.get("best")]
    assert best.metrics["mean_test_score"] == search.best_score_
    assert best.params == {"logisticregression__C": str(search.best_params_["logisticregression__C"])}
    results = table(ws, top, "cv_results.parquet")
    assert results["mean_test_score"].to_list() == search.cv_results_["mean_test_score"].tolist()
    assert results["param_logisticregression__C"].to_list() == [0.1, 1, 10, 0.01, 5, 7]


def test_a_search_with_several_scores_and_no_refit_is_recorded(autolog: Autolog, runs: Runs, ws: Workspace) -> None:
    autolog(log_models=False)
    asked = {"n_iter": 3, "cv": 2, "scoring": ["accuracy", "roc_auc"], "refit": False, "random_state": 0}
    RandomizedSearchCV(DecisionTreeClassifier(), {"max_depth": [1, 2, 3, 4]}, **asked).fit(X, Y)
    top, *parts = runs()
    assert (top.name, len(parts)) == ("RandomizedSearchCV", 3)
    assert "mean_test_roc_auc" in parts[0].metrics
    assert table(ws, top, "cv_results.parquet").height == 3


def test_a_cross_validation_is_one_run_with_its_folds(autolog: Autolog, runs: Runs, ws: Workspace) -> None:
    autolog()
    scores = cross_val_score(pipeline(), X, Y, cv=4)
    [run] = runs()
    assert run.name == "cross_validate Pipeline"
    assert run.metrics["cv_test_score_mean"] == pytest.approx(scores.mean())
    assert run.metrics["cv_test_score_std"] == pytest.approx(scores.std())
    assert table(ws, run, "cv_folds.parquet")["test_score"].to_list() == scores.tolist()


def test_estimators_inside_of_others_are_parts_of_them(autolog: Autolog, runs: Runs) -> None:
    autolog(log_models=False)
    parts = [("a", GaussianNB()), ("b", DecisionTreeClassifier())]
    with joblib.parallel_config(backend="threading"):
        VotingClassifier(parts, n_jobs=2).fit(X[:100], Y[:100])
    assert [run.name for run in runs()] == ["VotingClassifier"]


def test_fits_side_by_side_in_worker_threads_of_the_program_are_runs_of_their_own(autolog: Autolog, runs: Runs) -> None:
    autolog(log_models=False)
    jobs = [joblib.delayed(Ridge(alpha).fit)(X, Y) for alpha in range(1, 7)]
    joblib.Parallel(n_jobs=3, backend="threading")(jobs)
    assert sorted(run.params["alpha"] for run in runs()) == list("123456")


def test_fits_in_threads_do_not_mix(autolog: Autolog, runs: Runs) -> None:
    autolog(log_models=False)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda alpha: Ridge(alpha).fit(X, Y * alpha), range(1, 25)))
    Ridge(100).fit(X, Y)
    found = runs()
    assert sorted(int(run.params["alpha"]) for run in found) == [*range(1, 25), 100]
    assert {len(run.metrics) for run in found} == {6}
    for run in found[:3]:
        alpha = int(run.params["alpha"])
        expected = mean_squared_error(Y * alpha, Ridge(alpha).fit(X, Y * alpha).predict(X)) if alpha < 100 else None
        assert expected is None or run.metrics["training_mean_squared_error"] == pytest.approx(expected)


def test_regression_gets_the_metrics_of_regression_with_weights(autolog: Autolog, runs: Runs) -> None:
    autolog(log_models=False)
    inputs, truth = load_diabetes(return_X_y=True)
    weights = np.linspace(0, 1, len(truth))
    model = LinearRegression().fit(inputs, truth, weights)
    [run] = runs()
    squared = mean_squared_error(truth, model.predict(inputs), sample_weight=weights)
    assert run.metrics["training_mean_squared_error"] == pytest.approx(squared)
    assert run.metrics["training_root_mean_squared_error"] == pytest.approx(squared**0.5)
    assert run.metrics["training_score"] == pytest.approx(model.score(inputs, truth, weights))


def test_three_classes_and_texts_as_labels_are_scored(autolog: Autolog, runs: Runs) -> None:
    autolog(log_models=False)
    inputs, truth = load_iris(return_X_y=True)
    DecisionTreeClassifier(max_depth=2).fit(inputs, np.array(["a", "b", "c"])[truth])
    [run] = runs()
    assert 0.9 < run.metrics["training_roc_auc"] <= 1
    assert 0.9 < run.metrics["training_f1_score"] <= 1


def test_more_rows_than_the_limit_are_scored_in_part_and_the_run_says_so(autolog: Autolog, runs: Runs) -> None:
    autolog(log_models=False)
    many = np.random.default_rng(0).normal(size=(25_000, 2))
    DecisionTreeClassifier(max_depth=1).fit(many, many[:, 0] > 0)
    [run] = runs()
    assert run.tags["loopwright.autolog.scored_rows"] == "10000 of 25000"
    assert run.metrics["training_accuracy_score"] == 1.0


@pytest.mark.slow
def test_scoring_a_slow_estimator_takes_a_bounded_time(autolog: Autolog, runs: Runs) -> None:
    class Slow(ClassifierMixin, BaseEstimator):
        answered = 0

        def fit(self, X: np.ndarray, y: np.ndarray) -> Slow:
            self.classes_ = np.unique(y)
            return self

        def predict(self, X: np.ndarray) -> np.ndarray:
            import time

            type(self).answered += len(X)
            time.sleep(len(X) * 0.0003)
            return np.zeros(len(X), int)

    autolog(log_models=False)
    Slow().fit(np.zeros((9_000, 1)), np.arange(9_000) % 2)
    [run] = runs()
    rows, _, total = run.tags["loopwright.autolog.scored_rows"].partition(" of ")
    assert total == "9000"
    assert 1_000 <= int(rows) < 2_000
    assert Slow.answered < 5_000


def test_transformers_are_no_trainings_and_clusterings_are(autolog: Autolog, runs: Runs) -> None:
    autolog(log_models=False)
    StandardScaler().fit(X)
    make_pipeline(StandardScaler()).fit_transform(X)
    DBSCAN().fit(X[:50])
    assert [run.name for run in runs()] == ["DBSCAN"]


def test_the_active_run_is_used_and_goes_on_and_a_second_fit_keeps_its_own_names(
    autolog: Autolog, runs: Runs, ws: Workspace
) -> None:
    autolog()
    with lw.start_run("mine", "by hand") as run:
        Ridge(1.0).fit(X, Y)
        assert lw.active_run() is run
        Ridge(2.0).fit(X, Y)
        lw.log_metric("after", 1)
    [found] = runs()
    assert (found.name, found.params["alpha"], found.params["fit_2.alpha"]) == ("by hand", "1.0", "2.0")
    assert found.metrics["fit_2.training_score"] < found.metrics["training_score"]
    assert {"model/model.onnx", "fit_2/model/model.onnx"} <= set(paths(ws, found))


def test_exclusive_leaves_runs_of_the_program_alone(autolog: Autolog, runs: Runs) -> None:
    autolog(exclusive=True, log_models=False, experiment="auto")
    with lw.start_run("mine"):
        Ridge().fit(X, Y)
    Ridge(3).fit(X, Y)
    mine, own = runs()
    assert (mine.experiment, mine.params, mine.metrics, mine.tags) == ("mine", {}, {}, {})
    assert (own.experiment, own.params["alpha"]) == ("auto", "3")


def test_a_class_that_is_defined_later_is_recorded_and_its_super_fit_once(autolog: Autolog, runs: Runs) -> None:
    autolog(log_models=False)

    class Mine(Ridge):
        def fit(self, X: np.ndarray, y: np.ndarray, flag: bool = False) -> Mine:
            """My own."""
            return super().fit(X, y)  # type: ignore[no-any-return]

    Mine().fit(X, Y)
    assert [run.name for run in runs()] == ["Mine"]
    assert (
        str(inspect.signature(Mine.fit)) == "(self, X: 'np.ndarray', y: 'np.ndarray', flag: 'bool' = False) -> 'Mine'"
    )
    assert Mine.fit.__doc__ == "My own."
    lw.autolog(disable=True)
    Mine().fit(X, Y)
    assert len(runs()) == 1
    assert not hasattr(Mine.fit, "__wrapped__")


def test_names_signatures_and_docstrings_stay(autolog: Autolog) -> None:
    before = (str(inspect.signature(Ridge.fit)), Ridge.fit.__doc__, Ridge.fit.__qualname__, Ridge.fit.__module__)
    autolog()
    assert hasattr(Ridge.fit, "__wrapped__")
    assert (
        str(inspect.signature(Ridge.fit)),
        Ridge.fit.__doc__,
        Ridge.fit.__qualname__,
        Ridge.fit.__module__,
    ) == before


def test_switching_off_puts_the_very_same_functions_back(autolog: Autolog, runs: Runs) -> None:
    from sklearn.model_selection import _validation

    kinds = [Ridge, Pipeline, GridSearchCV, BaseEstimator, DummyClassifier]
    before = [dict(vars(kind)) for kind in kinds] + [dict(vars(_validation))]
    autolog()
    autolog()
    assert vars(Ridge)["fit"].__wrapped__ is before[0]["fit"]
    autolog(disable=True)
    for owner, old in zip([*kinds, _validation], before, strict=True):
        assert {name for name, value in vars(owner).items() if old.get(name) is not value} <= {"__init_subclass__"}
        assert vars(owner).keys() == old.keys()
    Ridge().fit(X, Y)
    assert runs() == []


def test_what_somebody_patched_after_us_stays_theirs(
    autolog: Autolog, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    autolog(log_models=False)
    ours, calls = vars(Ridge)["fit"], []

    def theirs(self: Ridge, *args: object, **kwargs: object) -> Ridge:
        calls.append(1)
        return ours(self, *args, **kwargs)  # type: ignore[no-any-return]

    original = ours.__wrapped__
    monkeypatch.setattr(Ridge, "fit", theirs)
    Ridge().fit(X, Y)
    lw.autolog(disable=True)
    assert vars(Ridge)["fit"] is theirs
    Ridge().fit(X, Y)
    assert (len(calls), len(runs())) == (2, 1)
    monkeypatch.undo()
    Ridge.fit = original  # what stood there before all this


def test_pickles_and_results_are_what_they_are_without_autolog(autolog: Autolog) -> None:
    forest = RandomForestClassifier(5, random_state=0)
    plain = pickle.dumps(forest.fit(X, Y))
    autolog()
    np.random.seed(3)
    assert pickle.dumps(forest.fit(X, Y)) == plain
    drawn = np.random.random()
    np.random.seed(3)
    assert np.random.random() == drawn
    assert pickle.loads(pickle.dumps(Ridge.fit)) is Ridge.fit
    assert pickle.loads(pickle.dumps(Ridge().fit)).__func__ is Ridge.fit


LOKY = """
import loopwright as lw
lw.autolog(log_models=False)
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score

class Mine(ClassifierMixin, BaseEstimator):
    def __init__(self, C=1.0):
        self.C = C
    def fit(self, X, y):
        self.inner_ = LogisticRegression(C=self.C, max_iter=30).fit(X, y)
        self.classes_ = self.inner_.classes_
        return self
    def predict(self, X):
        return self.inner_.predict(X)

if __name__ == "__main__":
    X, y = load_iris(return_X_y=True)
    GridSearchCV(Mine(), {"C": [0.1, 1.0]}, cv=2, n_jobs=2).fit(X, y)
    cross_val_score(Mine(), X, y, cv=2, n_jobs=2)
"""


@pytest.mark.slow
def test_a_class_of_the_program_itself_goes_to_worker_processes(program: Program, root: Path, runs: Runs) -> None:
    process = program(LOKY)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "autolog" not in errors
    assert [run.name for run in runs() if not run.parent] == ["GridSearchCV", "cross_validate Mine"]


@pytest.mark.slow
def test_nearest_neighbours_of_many_rows_are_not_converted(autolog: Autolog, runs: Runs) -> None:
    autolog()
    many = np.random.default_rng(0).normal(size=(60_000, 20))
    KNeighborsClassifier(3).fit(many, many[:, 0] > 0)
    [run] = runs()
    assert run.tags["loopwright.autolog.model"].startswith("not kept: ")
