"""torch and safetensors work inside a confined worker."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import torch
from safetensors.torch import save_file
from tests.interop.torch.scoring import Scorer

from loopwright.models import Task, build_bundle

VECTORS = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
ROWS = pl.DataFrame({"embedding": pl.Series(VECTORS, dtype=pl.Array(pl.Float32, 6))})


def test_a_module_from_safetensors_answers_from_its_worker(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(6, 1)
    save_file(layer.state_dict(), tmp_path / "model.safetensors")
    made = build_bundle(Scorer, ROWS, files=tmp_path / "model.safetensors")
    assert made.manifest.task is Task.REGRESSION
    assert made.manifest.parity.max_abs < 1e-6
    with torch.inference_mode():
        expected = layer(torch.tensor(VECTORS)).numpy().reshape(-1)
    with made.predictor() as predictor:
        np.testing.assert_allclose(predictor.predict({"embedding": VECTORS})["value"], expected, atol=1e-6)


def test_a_folder_in_hugging_faces_style_does_so_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_file(torch.nn.Linear(6, 1).state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"auto_map": {"Predictor": "scoring.Scorer"}}', encoding="utf-8")
    source = Path(__file__).with_name("scoring.py").read_text(encoding="utf-8")
    (tmp_path / "scoring.py").write_text(source, encoding="utf-8")
    made = build_bundle(tmp_path, ROWS, allow_code=True)
    assert made.manifest.format == "python/safetensors"
    with made.predictor() as predictor:
        assert predictor.predict({"embedding": VECTORS})["value"].shape == (40,)
