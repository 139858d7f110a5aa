"""Trainings of PyTorch Lightning, and plain loops of torch, record themselves."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from safetensors.torch import load
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.tensorboard import SummaryWriter

import loopwright as lw
from loopwright.track import Run
from loopwright.workspace import Workspace

Runs = Callable[[], list[Run]]
Autolog = Callable[..., None]
Program = Callable[..., "subprocess.Popen[str]"]


class Line(pl.LightningModule):
    """A straight line."""

    def __init__(self, lr: float = 0.1, fail: bool = False) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = nn.Linear(2, 1)
        self.seen: list[float] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)  # type: ignore[no-any-return]

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        if self.hparams["fail"]:
            raise ZeroDivisionError("mine")
        loss = nn.functional.mse_loss(self(batch[0]), batch[1])
        self.seen.append(loss.item())
        self.log("loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, _: int) -> None:
        self.log("val_loss", nn.functional.mse_loss(self(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=self.hparams["lr"])


def loader() -> DataLoader[Any]:
    torch.manual_seed(0)
    x = torch.randn(64, 2)
    return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8)


def trainer(folder: Path, **more: Any) -> pl.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return pl.Trainer(default_root_dir=folder, **{"logger": False, "log_every_n_steps": 2, **quiet, **more})


def test_a_fit_is_a_run_with_params_curves_and_weights(
    autolog: Autolog, runs: Runs, ws: Workspace, tmp_path: Path
) -> None:
    autolog()
    model = Line()
    made = trainer(tmp_path, max_epochs=3, enable_checkpointing=False)
    before = list(made.callbacks)
    made.fit(model, loader(), loader())
    assert made.callbacks == before
    [run] = runs()
    assert (run.name, run.status, run.tags["loopwright.autolog"]) == ("Line", "finished", "lightning")
    expected = {"lr": "0.1", "optimizer": "Adam", "optimizer.lr": "0.1", "max_epochs": "3", "parameters": "3"}
    assert expected.items() <= run.params.items()
    by_step = ws.runs.history(run.id, "loss_step")
    assert by_step.steps[:3] == [2, 4, 6]
    assert by_step.values[:3] == pytest.approx([model.seen[1], model.seen[3], model.seen[5]])
    assert len(by_step.steps) == 12
    by_epoch, losses = ws.runs.history(run.id, "loss_epoch"), model.seen
    assert by_epoch.steps == ws.runs.history(run.id, "val_loss").steps == [8, 16, 24]
    assert by_epoch.values == pytest.approx([sum(losses[at : at + 8]) / 8 for at in (0, 8, 16)])
    assert "loss" not in run.metrics
    assert run.metrics["val_loss"] == pytest.approx(float(made.callback_metrics["val_loss"]))
    weights = load(ws.runs.artifact(run.id, "model/weights.safetensors"))
    assert all(torch.equal(weights[key], value) for key, value in model.state_dict().items())
    assert "Linear" in ws.runs.artifact(run.id, "model_summary.txt").decode()


def test_checkpoints_and_early_stopping_are_what_they_are_without_autolog(
    autolog: Autolog, runs: Runs, tmp_path: Path
) -> None:
    autolog(log_models=False)
    watching = [EarlyStopping("val_loss", patience=1, min_delta=100.0), ModelCheckpoint(tmp_path, monitor="val_loss")]
    trainer(tmp_path, max_epochs=9, callbacks=watching).fit(Line(), loader(), loader())
    saved = torch.load(watching[1].best_model_path, weights_only=False)
    assert [key.partition("{")[0] for key in saved["callbacks"]] == ["EarlyStopping", "ModelCheckpoint"]
    [run] = runs()
    assert run.params["early_stopping.monitor"] == "val_loss"
    assert run.metrics["early_stopping.stopped_epoch"] == watching[0].stopped_epoch > 0
    assert run.metrics["checkpoint.best_model_score"] == pytest.approx(float(watching[1].best_model_score))


def test_a_failing_step_fails_the_run_and_comes_through(autolog: Autolog, runs: Runs, tmp_path: Path) -> None:
    autolog()
    with pytest.raises(ZeroDivisionError, match="mine"):
        trainer(tmp_path, max_epochs=1).fit(Line(fail=True), loader())
    assert [(run.status, run.error) for run in runs()] == [("failed", "ZeroDivisionError: mine")]


def test_of_several_processes_only_the_first_records(autolog: Autolog, runs: Runs, tmp_path: Path) -> None:
    class Second(pl.Trainer):
        global_rank = 1  # type: ignore[assignment]

    autolog()
    options = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "accelerator": "cpu"}
    Second(default_root_dir=tmp_path, max_epochs=1, **options).fit(Line(), loader())  # type: ignore[arg-type]
    assert runs() == []


SPAWN = """
import sys; sys.path.insert(0, {folder!r})
import loopwright as lw
lw.autolog()
from test_autolog import Line, loader, trainer
if __name__ == "__main__":
    trainer({root!r}, max_epochs=2, strategy="ddp_spawn", devices=2, enable_checkpointing=False).fit(Line(), loader())
"""


@pytest.mark.slow
def test_processes_that_are_spawned_train_and_the_first_ones_result_is_kept(
    program: Program, runs: Runs, tmp_path: Path
) -> None:
    process = program(SPAWN.format(folder=str(Path(__file__).parent), root=str(tmp_path)))
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    assert "autolog" not in errors
    [run] = runs()
    assert (run.status, run.params["world_size"]) == ("finished", "2")
    assert "loss_epoch" in run.metrics


def test_a_plain_loop_leaves_its_optimizers_and_learning_rates(autolog: Autolog, runs: Runs, ws: Workspace) -> None:
    autolog(["torch"])
    model, x = nn.Linear(2, 1), torch.randn(16, 2)
    first = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    second = torch.optim.AdamW([{"params": [model.weight]}, {"params": [model.bias], "lr": 0.5}], lr=0.25)
    schedule = torch.optim.lr_scheduler.StepLR(first, step_size=2, gamma=0.1)

    def loop() -> None:
        for _ in range(4):
            model(x).pow(2).mean().backward()
            first.step()
            second.step()
            schedule.step()

    loop()
    with lw.start_run():
        loop()
    [run] = runs()
    assert (run.params["optimizer"], run.params["optimizer.momentum"]) == ("SGD", "0.9")
    assert (run.params["optimizer_2"], run.params["optimizer_2.lr"]) == ("AdamW", "0.25")
    history = ws.runs.history(run.id, "lr")
    assert (history.steps, history.values) == ([0, 2], pytest.approx([0.01, 0.001]))
    assert run.metrics["lr_2/group_1"] == 0.5
    lw.autolog(disable=True)
    with lw.start_run():
        loop()
    assert runs()[1].params == {}


def test_a_compiled_step_works_as_ever(autolog: Autolog, runs: Runs) -> None:
    autolog(["torch"])
    model, x = nn.Linear(2, 1), torch.randn(16, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    step = torch.compile(optimizer.step, backend="eager")
    with lw.start_run():
        for _ in range(3):
            model(x).pow(2).mean().backward()
            step()
            optimizer.zero_grad()
    assert runs()[0].status == "finished"


def test_what_a_program_writes_for_tensorboard_is_recorded_in_the_active_run(
    autolog: Autolog, runs: Runs, ws: Workspace, tmp_path: Path
) -> None:
    autolog(log_every_n_steps=2)
    with SummaryWriter(tmp_path) as writer:
        writer.add_scalar("before", 1.0, 0)
        with lw.start_run():
            for step in range(5):
                writer.add_scalar("loss", torch.tensor(step / 2), step)
            writer.add_scalars("acc", {"train": 0.5, "test": 0.25}, 4)
            writer.add_hparams({"lr": 0.1, "net": "small"}, {"score": 3})
    [run] = runs()
    assert ws.runs.history(run.id, "loss").steps == [0, 2, 4]
    assert ws.runs.history(run.id, "loss").values == [0.0, 1.0, 2.0]
    assert (run.metrics["acc/train"], run.metrics["score"], run.params) == (0.5, 3.0, {"lr": "0.1", "net": "small"})
    assert list(Path(tmp_path).glob("events*"))
    assert "before" not in run.metrics
