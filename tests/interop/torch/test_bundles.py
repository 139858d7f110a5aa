"""torch modules become bundles that answer the same, or are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from loopwright.core import Invalid
from loopwright.models import Layout, Task, build_bundle, predict_frame
from loopwright.models.predictor import GRAPH_FILE

COLUMNS = ("distance", "wind", "hour")


def rows(count: int, seed: int = 0) -> pl.DataFrame:
    return pl.DataFrame(np.random.default_rng(seed).normal(size=(count, 3)), schema=list(COLUMNS))


def network(width: int, *last: nn.Module) -> nn.Module:
    torch.manual_seed(7)
    body = [nn.Linear(3, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, width)]
    return nn.Sequential(*body, *last)


def answer(module: nn.Module, given: pl.DataFrame) -> np.ndarray[Any, Any]:
    """What torch itself says."""
    module.eval()
    with torch.no_grad():
        found: np.ndarray[Any, Any] = module(torch.tensor(given.to_numpy(), dtype=torch.float32)).numpy()
    module.train()
    return found


def sigmoid(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return 1.0 / (1.0 + np.exp(-values))


@pytest.mark.parametrize("count", [1, 7, 300])
@pytest.mark.parametrize(
    "module", [network(1), network(1, nn.Flatten(0)), network(1, nn.Sigmoid()), network(1, nn.Sigmoid(), nn.Flatten(0))]
)
def test_one_score_is_a_logit_unless_the_module_ends_in_a_sigmoid(module: nn.Module, count: int) -> None:
    made = build_bundle(module, rows(200), task="binary")
    fresh = rows(count, seed=1)
    raw = answer(module, fresh).reshape(-1)
    expected = raw if any(isinstance(part, nn.Sigmoid) for part in module.modules()) else sigmoid(raw)
    answers = predict_frame(made.predictor(), fresh)
    np.testing.assert_allclose(answers["probability"], expected, atol=1e-5)
    assert answers["label"].to_list() == [int(value > 0.5) for value in expected]
    assert made.manifest.parity.rows == 200
    assert made.manifest.classes == (0, 1)


@pytest.mark.parametrize("width", [2, 5])
@pytest.mark.parametrize("last", [(), (nn.Softmax(dim=1),), (nn.LogSoftmax(dim=1),)])
def test_several_scores_become_a_probability_a_class(width: int, last: tuple[nn.Module, ...]) -> None:
    module = network(width, *last)
    task = Task.BINARY if width == 2 else Task.MULTICLASS
    made = build_bundle(module, rows(200), task=task)
    fresh = rows(40, seed=1)
    raw = answer(nn.Sequential(*list(module)[:5]), fresh)
    expected = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
    array = {name: fresh[name].to_numpy() for name in COLUMNS}
    answers = made.predictor().predict(array)
    scores = answers["probability"] if width == 2 else answers["probabilities"]
    np.testing.assert_allclose(scores, expected[:, 1] if width == 2 else expected, atol=1e-5)
    assert answers["label"].tolist() == expected.argmax(axis=1).tolist()


@pytest.mark.parametrize("last", [(), (nn.Flatten(0),)])
def test_a_regression_gives_a_value_a_row(last: tuple[nn.Module, ...]) -> None:
    module = network(1, *last)
    made = build_bundle(module, rows(200), task="regression")
    fresh = rows(9, seed=1)
    np.testing.assert_allclose(
        predict_frame(made.predictor(), fresh)["value"], answer(module, fresh).reshape(-1), atol=1e-5
    )


def test_other_outputs_are_served_as_they_are() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(3, 4)

        def forward(self, given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            hidden = self.body(given)
            return hidden, hidden.sum(dim=1)

    made = build_bundle(Pair(), rows(50), task="other")
    fresh = rows(3, seed=1)
    answers = made.predictor().predict({name: fresh[name].to_numpy() for name in COLUMNS})
    assert {name: found.shape for name, found in answers.items()} == {"output_0": (3, 4), "output_1": (3,)}
    np.testing.assert_allclose(answers["output_0"].sum(axis=1), answers["output_1"], atol=1e-5)


def test_a_module_that_names_its_columns_gets_one_tensor_each() -> None:
    class Carrier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.carriers, self.body = nn.Embedding(5, 4), nn.Linear(5, 1)

        def forward(self, carrier: torch.Tensor, distance: torch.Tensor) -> Any:
            return self.body(torch.cat([self.carriers(carrier).squeeze(1), distance], dim=1))

    sample = pl.DataFrame({"carrier": [0, 1, 2, 3, 4] * 10, "distance": [value / 7 for value in range(50)]})
    module = Carrier()
    made = build_bundle(module, sample, task="binary")
    assert made.manifest.layout is Layout.COLUMNS
    fresh = sample.sample(8, seed=3)
    with torch.no_grad():
        raw = module(
            torch.tensor(fresh["carrier"]).reshape(-1, 1), torch.tensor(fresh["distance"]).float().reshape(-1, 1)
        )
    answers = predict_frame(made.predictor(), fresh)
    np.testing.assert_allclose(answers["probability"], sigmoid(raw.numpy().reshape(-1)), atol=1e-5)


def test_a_module_in_float64_is_proved_in_its_own_precision() -> None:
    module = network(1).double()
    parity = build_bundle(module, rows(200), task="regression").manifest.parity
    assert 0 < parity.max_abs < 1e-5
    assert next(module.parameters()).dtype is torch.float64


def test_the_module_is_left_as_it_was() -> None:
    module = network(1)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    build_bundle(module, rows(50), task="binary")
    assert module.training
    assert all(part.training for part in module)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_a_bundle_tells_nothing_of_the_machine() -> None:
    made = build_bundle(network(1), rows(50), task="binary")
    held = (made.folder / GRAPH_FILE).read_bytes()
    assert b".py" not in held
    assert __file__.encode() not in held
    assert b"stack_trace" not in held


class MeanOfBatch(nn.Module):
    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return given.sum(dim=1) - given.mean()


class Chance(nn.Module):
    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(given, 0.5, training=True).sum(dim=1)


class Between(nn.Module):
    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return given.sum(dim=1).abs() / 100


class Asks(nn.Module):
    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return given.sum(dim=1) if given.sum() > 1e9 else given[:, 0] * float(given[0, 0] * 0 + 2)


@pytest.mark.parametrize(
    ("module", "task", "says"),
    [
        (network(1), None, "does not say what it answers"),
        (network(3), "binary", "gives 1 or 2 scores a row; this one gives 3"),
        (network(1), "multiclass", "at least 2"),
        (network(3, nn.Sigmoid()), "multiclass", "logits or probabilities"),
        (Between(), "binary", "logits or probabilities"),
        (MeanOfBatch(), "regression", "other rows of its batch"),
        (Chance(), "regression", "or on chance"),
        (Asks(), "regression", "has no ONNX form"),
        (nn.Linear(8, 1), "regression", "cannot answer the sample"),
    ],
)
def test_what_cannot_be_served_soundly_is_refused(module: nn.Module, task: str | None, says: str) -> None:
    with pytest.raises(Invalid, match=says):
        build_bundle(module, rows(60), task=task)


def test_text_is_refused_with_what_to_do() -> None:
    with pytest.raises(Invalid, match="'carrier' holds text"):
        build_bundle(network(1), rows(9).with_columns(carrier=pl.lit("UA")), task="binary")
