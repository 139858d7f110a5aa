"""Whatever fails in autolog, trainings neither fail nor change; and it costs nothing before it is needed."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from tests.track.autolog.conftest import Reports

import loopwright as lw
from loopwright.core import Invalid
from loopwright.recording.autologging import _Front
from loopwright.track import AUTOLOG, Patches, Recorder, Run, Training
from loopwright.track.autolog import scoring, searches, sklearn
from loopwright.track.autolog.guarding import report
from loopwright.track.autolog.logs import TrainingLog

Runs = Callable[[], list[Run]]
Autolog = Callable[..., None]
X = np.random.default_rng(0).normal(size=(60, 3))
Y = (X[:, 0] > 0).astype(int)


def break_it(*_: object, **__: object) -> Any:
    raise RuntimeError("broken on purpose")


BREAKABLE = [
    (Recorder, "log_params"),
    (Recorder, "log_metrics"),
    (Recorder, "set_tags"),
    (Recorder, "log_artifact"),
    (Recorder, "log_table"),
    (Recorder, "finish"),
    (_Front, "active"),
    (_Front, "start"),
    (_Front, "bundle"),
    (TrainingLog, "begin"),
    (TrainingLog, "metrics"),
    (TrainingLog, "child"),
    (TrainingLog, "end"),
    (Training, "argument"),
    (Training, "before"),
    (scoring, "_by_task"),
    (searches, "_columns"),
    (sklearn, "params_of"),
    (sklearn, "score"),
    (sklearn, "_is_worth_it"),
    (sklearn, "sample_frame"),
]


@pytest.mark.slow
@pytest.mark.parametrize("owner, name", BREAKABLE, ids=lambda part: getattr(part, "__name__", part))
def test_a_training_goes_on_whatever_breaks(
    autolog: Autolog, reports: Reports, monkeypatch: pytest.MonkeyPatch, owner: object, name: str
) -> None:
    expected = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2).fit(X, Y)
    autolog()
    monkeypatch.setattr(owner, name, break_it)
    for _ in range(2):
        found = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2).fit(X, Y)
        np.testing.assert_array_equal(found.best_estimator_.coef_, expected.best_estimator_.coef_)
    told = [record for record in reports.take() if record.levelno == logging.WARNING]
    assert told
    assert len({record.getMessage() for record in told}) == len(told)
    monkeypatch.undo()
    run = lw.active_run()
    if run is not None:  # what could not be ended is ended here
        run.finish()


def test_an_error_is_told_once_with_its_traceback_for_who_debugs(
    autolog: Autolog, reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    autolog(log_models=False)
    monkeypatch.setattr(sklearn, "score", break_it)
    for _ in range(5):
        Ridge().fit(X, Y)
    warning, debug = reports.take()
    assert "the training goes on: RuntimeError: broken on purpose" in warning.getMessage()
    assert warning.exc_info is None
    assert debug.exc_info is not None


def test_an_error_without_a_text_is_reported_all_the_same(reports: Reports) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError

    report("nothing", Mute())
    warning = reports.take()[0].getMessage()
    assert "nothing" in warning
    assert "Mute" in warning


def test_the_training_is_called_once_and_its_own_error_comes_through(autolog: Autolog, runs: Runs) -> None:
    class Failing(BaseEstimator):
        calls = 0

        def fit(self, X: Any, y: Any) -> Failing:
            type(self).calls += 1
            raise ZeroDivisionError("mine")

        def predict(self, X: Any) -> Any:
            return X

    autolog()
    with pytest.raises(ZeroDivisionError, match="mine"):
        Failing().fit(X, Y)
    [run] = runs()
    assert (run.status, run.error, Failing.calls) == ("failed", "ZeroDivisionError: mine", 1)
    assert lw.active_run() is None


def test_an_interrupt_kills_the_run_and_comes_through(autolog: Autolog, runs: Runs) -> None:
    class Interrupted(BaseEstimator):
        def fit(self, X: Any, y: Any) -> Interrupted:
            raise KeyboardInterrupt

        def predict(self, X: Any) -> Any:
            return X

    autolog()
    with pytest.raises(KeyboardInterrupt):
        Interrupted().fit(X, Y)
    assert [run.status for run in runs()] == ["killed"]


@pytest.mark.parametrize("where", ["a file", "nothing answers", "malformed settings"])
def test_a_broken_workspace_does_not_hold_up_a_training(
    autolog: Autolog, reports: Reports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    folder = tmp_path / "broken"
    if where == "a file":
        folder.write_text("no folder")
    elif where == "malformed settings":
        folder.mkdir()
        (folder / "loopwright.toml").write_text("][")
    monkeypatch.setenv("LOOPWRIGHT_WORKSPACE", "http://127.0.0.1:9" if where == "nothing answers" else str(folder))
    expected = Ridge().fit(X, Y).coef_
    autolog(log_models=False)
    for _ in range(3):
        np.testing.assert_array_equal(Ridge().fit(X, Y).coef_, expected)
    assert lw.active_run() is None
    reports.take()


def test_an_unknown_framework_and_a_bad_number_are_refused_with_the_known_ones(autolog: Autolog) -> None:
    with pytest.raises(Invalid, match="no framework 'scikit'") as found:
        autolog("scikit")
    assert "sklearn" in str(found.value)
    with pytest.raises(Invalid, match="log_every_n_steps is 0"):
        autolog(log_every_n_steps=0)


def test_only_what_is_asked_for_is_watched_and_other_names_are_known(autolog: Autolog, runs: Runs) -> None:
    autolog(["pytorch", "LightGBM"])
    Ridge().fit(X, Y)
    assert runs() == []
    autolog("scikit-learn", log_models=False)
    Ridge().fit(X, Y)
    assert len(runs()) == 1


class Theirs:
    """An integration of a stranger."""

    modules = ("json.decoder", "their_framework")

    def patch(self, module: ModuleType, patches: Patches) -> None:
        if module.__name__ == "json.decoder":
            raise OSError("this one is broken")
        patches.wrap([(module, "train")], self.train)

    def train(self, training: Training) -> Iterator[None]:
        log = training.begin("theirs")
        assert log is not None
        log.params({"rate": training.argument("rate")})
        training.give("rate", 0.5)
        yield
        log.metrics({"loss": training.result})


def test_a_strangers_integration_comes_by_the_same_door_and_its_modules_may_come_later(
    autolog: Autolog, runs: Runs, reports: Reports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_framework.py").write_text("def train(rate, twice=False):\n    return rate * (1 + twice)\n")
    monkeypatch.syspath_prepend(tmp_path)
    AUTOLOG.register("theirs")(Theirs())
    try:
        autolog()
        assert "this one is broken" in reports.take()[0].getMessage()
        finders = len(sys.meta_path)
        import their_framework  # type: ignore[import-not-found]  # made above

        assert their_framework.train(3, twice=True) == 1.0
        assert their_framework.__loader__.get_source("their_framework").startswith("def train")
        assert their_framework.__spec__.loader is their_framework.__loader__
        assert "exec_module" not in vars(their_framework.__loader__)
        lw.autolog(disable=True)
        assert len(sys.meta_path) == finders - 1
        assert their_framework.train(3) == 3
    finally:
        AUTOLOG._items.pop("theirs")
        sys.modules.pop("their_framework", None)
    [run] = runs()
    assert (run.name, run.params, run.metrics) == ("theirs", {"rate": "3"}, {"loss": 1.0})


LATER = """
import json, sys, time
start = time.process_time()
import loopwright as lw
lw.autolog()
cost = time.process_time() - start
heavy = {"numpy", "polars", "sklearn", "lightgbm", "torch", "keras", "xgboost", "sqlalchemy", "pandas", "httpx"}
print(json.dumps([cost, sorted(heavy & sys.modules.keys())]))
"""


@pytest.mark.slow
def test_switching_on_is_cheap_and_imports_no_library() -> None:
    costs = []
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", LATER], capture_output=True, text=True, check=True)
        cost, heavy = json.loads(done.stdout)
        costs.append(cost)
        assert heavy == []
    assert min(costs) < 0.25


@pytest.mark.slow
def test_a_library_that_is_imported_later_is_watched(root: Path) -> None:
    program = (
        "import loopwright as lw\nlw.autolog(log_models=False)\n"
        "from sklearn.linear_model import Ridge\n"
        "Ridge().fit([[1.0], [2.0], [3.0]], [1.0, 2.0, 3.0])\n"
        "from loopwright.recording.spooling import spool_for\n"
        "assert spool_for()[0].flush()\n"
        "with lw.connect() as ws:\n    [run] = ws.runs.search()\n    print(run.name, run.params['alpha'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "Ridge 1.0", done.stderr
