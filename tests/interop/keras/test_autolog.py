"""Keras's fits record themselves."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
import pytest

import loopwright as lw
from loopwright.track import Run
from loopwright.workspace import Workspace

Runs = Callable[[], list[Run]]
Autolog = Callable[..., None]
X = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
Y = X.sum(1, keepdims=True)


def network(*more: keras.layers.Layer) -> keras.Model:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(4), *more, keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.05, momentum=0.5), loss="mse", metrics=["mae"])
    return model


def test_a_fit_is_a_run_with_params_curves_and_weights(
    autolog: Autolog, runs: Runs, ws: Workspace, tmp_path: Path
) -> None:
    plain = network().fit(X, Y, epochs=4, verbose=0, validation_split=0.25).history
    autolog()
    model, callbacks = network(), [keras.callbacks.TerminateOnNaN()]
    history = model.fit(X, Y, 16, epochs=4, verbose=0, callbacks=callbacks, validation_split=0.25).history
    assert len(callbacks) == 1
    assert plain.keys() == history.keys()
    [run] = runs()
    assert (run.status, run.tags["loopwright.autolog"]) == ("finished", "keras")
    expected = {"epochs": "4", "batch_size": "16", "optimizer": "SGD", "optimizer.momentum": "0.5", "loss": "mse"}
    assert expected.items() <= run.params.items()
    assert (run.params["training_rows"], run.params["parameters"]) == ("64", "21")
    for key, values in history.items():
        stored = ws.runs.history(run.id, key)
        assert (stored.steps, stored.values) == ([0, 1, 2, 3], pytest.approx(values))
    assert "dense" in ws.runs.artifact(run.id, "model_summary.txt").decode()
    (tmp_path / "kept.weights.h5").write_bytes(ws.runs.artifact(run.id, "model/model.weights.h5"))
    again = keras.models.model_from_json(ws.runs.artifact(run.id, "model/config.json").decode())
    again.load_weights(tmp_path / "kept.weights.h5")
    np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))


def test_results_are_what_they_are_without_autolog(autolog: Autolog, runs: Runs) -> None:
    plain = network().fit(X, Y, epochs=3, verbose=0, shuffle=False).history["loss"]
    autolog(log_models=False, log_every_n_steps=2)
    assert network().fit(X, Y, epochs=3, verbose=0, shuffle=False).history["loss"] == plain
    assert len(runs()) == 1


def test_a_list_of_callbacks_that_the_program_made_is_left_as_it_was(autolog: Autolog, runs: Runs) -> None:
    autolog(log_models=False)
    model = network()
    given = keras.callbacks.CallbackList([keras.callbacks.History()], model=model, add_history=False)
    before = list(given.callbacks)
    model.fit(X, Y, epochs=2, verbose=0, callbacks=given)
    assert given.callbacks == before
    assert "loss" in runs()[0].metrics


def test_code_in_a_layer_is_not_kept(autolog: Autolog, runs: Runs, ws: Workspace) -> None:
    autolog()
    network(keras.layers.Lambda(lambda x: x * 2)).fit(X, Y, epochs=1, verbose=0)
    [run] = runs()
    paths = [item.path for item in ws.runs.artifacts(run.id)]
    assert paths == ["model/model.weights.h5", "model_summary.txt"]


def test_an_error_is_the_programs_and_switching_off_puts_the_method_back(autolog: Autolog, runs: Runs) -> None:
    [owner] = [kind for kind in keras.Model.__mro__ if "fit" in vars(kind)][:1]
    before = vars(owner)["fit"]
    autolog()
    assert keras.Model.fit is not before
    assert str(inspect.signature(keras.Model.fit)) == str(inspect.signature(before))
    with pytest.raises(ValueError):
        network().fit(X[:, :2], Y, epochs=1, verbose=0)
    lw.autolog(disable=True)
    assert vars(owner)["fit"] is before
    network().fit(X, Y, epochs=1, verbose=0)
    assert [run.status for run in runs()] == ["failed"]
