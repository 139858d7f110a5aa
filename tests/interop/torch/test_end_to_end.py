"""A network trained on real data is bundled, registered, and answers in a process that has no torch in it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from torch import nn

import loopwright as lw

SERVER = """
import json, sys
import polars as pl
import loopwright as lw

with lw.connect(sys.argv[1]) as ws:
    answers = ws.models.predict("model:tumours@champion", pl.read_parquet(sys.argv[2]))
print(json.dumps({"probability": answers["probability"].to_list(), "torch": "torch" in sys.modules}))
"""


class Scaled(nn.Module):
    """The scaling travels with the network."""

    def __init__(self, given: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", given.mean(dim=0))
        self.register_buffer("spread", given.std(dim=0))
        self.body = nn.Sequential(nn.Linear(given.shape[1], 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 1))

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return self.body((given - self.mean) / self.spread)


def trained(rows: pl.DataFrame, target: np.ndarray) -> Scaled:
    torch.manual_seed(0)
    given, wanted = torch.tensor(rows.to_numpy(), dtype=torch.float32), torch.tensor(target, dtype=torch.float32)
    model = Scaled(given)
    optimiser, loss = torch.optim.Adam(model.parameters(), lr=0.02), nn.BCEWithLogitsLoss()
    for _ in range(150):
        optimiser.zero_grad()
        loss(model(given)[:, 0], wanted).backward()
        optimiser.step()
    return model


def test_from_training_to_answers(tmp_path: Path) -> None:
    data = load_breast_cancer()
    table = pl.DataFrame(data.data, schema=[name.replace(" ", "_") for name in data.feature_names])
    chosen, held = train_test_split(np.arange(len(data.target)), test_size=0.3, random_state=0, stratify=data.target)
    model = trained(table[chosen], data.target[chosen])
    with lw.connect(tmp_path) as ws:
        bundle = lw.build_bundle(model, table[chosen], task="binary", target="benign")
        version = ws.models.register("tumours", bundle)
        ws.models.set_alias("tumours", "champion", version.version)
        assert f"torch=={torch.__version__}" in (bundle.folder / "environment.txt").read_text()
    assert bundle.manifest.parity.passed
    assert bundle.manifest.parity.rows == len(chosen)
    assert bundle.manifest.parity.max_abs < 1e-5

    table[held].write_parquet(tmp_path / "held.parquet")
    command = [sys.executable, "-c", SERVER, tmp_path, tmp_path / "held.parquet"]
    told = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True).stdout
    answers = json.loads(told)
    with torch.no_grad():
        logits = model.eval()(torch.tensor(table[held].to_numpy(), dtype=torch.float32))[:, 0]
    np.testing.assert_allclose(answers["probability"], torch.sigmoid(logits).numpy(), atol=1e-5)
    assert roc_auc_score(data.target[held], answers["probability"]) > 0.98
    assert not answers["torch"]
