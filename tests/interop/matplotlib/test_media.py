"""Figures of matplotlib and images of Pillow, as files of a run; a run as a notebook shows it."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from matplotlib import pyplot
from PIL import Image

import loopwright as lw

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def _workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPWRIGHT_WORKSPACE", str(tmp_path))


def test_a_figure_and_an_axes_become_pictures() -> None:
    figure, axes = pyplot.subplots(figsize=(4, 3), dpi=50)
    axes.plot([1, 3, 2])
    with lw.start_run() as run:
        lw.log_figure(figure, "roc")
        lw.log_figure(axes, "roc", step=3)
        lw.log_figure(figure, "roc.svg")
    with lw.connect() as ws:
        paths = [item.path for item in ws.runs.artifacts(run.id)]
        assert paths == ["figures/roc/00000003.png", "roc.png", "roc.svg"]
        picture = Image.open(io.BytesIO(ws.runs.artifact(run.id, "roc.png")))
        assert picture.format == "PNG"
        assert len(set(picture.convert("L").tobytes())) > 5
        assert b"<svg" in ws.runs.artifact(run.id, "roc.svg")


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_pillow_reads_what_we_write_and_we_keep_what_it_holds(mode: str) -> None:
    size = {"L": (7, 5), "RGB": (7, 5, 3), "RGBA": (7, 5, 4)}[mode]
    pixels = np.random.default_rng(3).integers(0, 256, size, dtype=np.uint8)
    with lw.start_run() as run:
        lw.log_image(pixels, "ours")
        lw.log_image(Image.fromarray(pixels, mode=None), "theirs")
    with lw.connect() as ws:
        for name in ("ours", "theirs"):
            found = Image.open(io.BytesIO(ws.runs.artifact(run.id, f"{name}.png")))
            assert found.mode == mode
            np.testing.assert_array_equal(np.asarray(found), pixels)


def test_a_notebook_shows_a_run_as_html() -> None:
    shell = InteractiveShell.instance()
    with lw.start_run(params={"lr": 0.1}) as run:
        for step in range(10):
            lw.log_metric("loss", 1 / (1 + step))
    data, _ = shell.display_formatter.format(run)
    assert "<polyline" in data["text/html"]
    assert run.id in data["text/html"]
    assert data["text/plain"].startswith("<run run-")
