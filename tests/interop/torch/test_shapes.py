"""torch modules that take images and vectors become graphs that answer the same."""

from __future__ import annotations

import numpy as np
import polars as pl
import torch

from loopwright.models import Task, build_bundle, predict_frame

IMAGES = np.random.default_rng(0).normal(size=(30, 3, 8, 8)).astype(np.float32)
ROWS = pl.DataFrame({"image": pl.Series(IMAGES, dtype=pl.Array(pl.Float32, (3, 8, 8)))})


class Mixed(torch.nn.Module):
    """Takes an image and a number by their names."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(193, 1)

    def forward(self, image: torch.Tensor, wind: torch.Tensor) -> torch.Tensor:
        return self.layer(torch.cat([image.flatten(1), wind], dim=1))


def test_an_image_classifier() -> None:
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 3)]
    model = torch.nn.Sequential(*layers)
    made = build_bundle(model, ROWS, task="multiclass")
    assert made.signature.inputs[0].shape == (3, 8, 8)
    assert made.manifest.task is Task.MULTICLASS
    assert made.manifest.parity.max_abs < 1e-5
    with torch.inference_mode():
        expected = torch.softmax(model.eval()(torch.tensor(IMAGES[:7])), dim=1).numpy()
    given = made.predictor().predict({"image": IMAGES[:7]})["probabilities"]
    np.testing.assert_allclose(given, expected, atol=1e-5)


def test_an_image_beside_a_number() -> None:
    torch.manual_seed(0)
    rows = ROWS.with_columns(wind=pl.Series(np.arange(30, dtype=np.float32)))
    model = Mixed()
    made = build_bundle(model, rows, task="regression")
    with torch.inference_mode():
        expected = model.eval()(torch.tensor(IMAGES), torch.arange(30.0).reshape(-1, 1)).numpy().reshape(-1)
    np.testing.assert_allclose(predict_frame(made.predictor(), rows)["value"], expected, atol=1e-4)
