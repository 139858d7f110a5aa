"""What a person sees of a run: the live line, the card in a notebook."""

from __future__ import annotations

import math
import os
import pty
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopwright.track.showing import live_line, run_html, sparkline
from loopwright.track.spool.trail import Traced


@pytest.mark.parametrize(
    ("values", "bars"),
    [
        ([], ""),
        ([math.nan, math.inf], ""),
        ([1.0], "▄"),
        ([2.0, 2.0, 2.0], "▄▄▄"),
        ([0, 1, 2, 3, 4, 5, 6, 7], "▁▂▃▄▅▆▇█"),
        ([7, math.nan, 0], "█▁"),
        ([1e308, -1e308, 1e308], "█▁█"),  # a span that no double holds, but its half
    ],
)
def test_a_sparkline_shows_the_way(values: list[float], bars: str) -> None:
    assert sparkline(values) == bars


@given(st.lists(st.floats(), max_size=300), st.integers(1, 40))
def test_any_values_have_a_sparkline_that_fits(values: list[float], width: int) -> None:
    assert len(sparkline(values, width)) == min(width, sum(map(math.isfinite, values)))


def test_the_line_holds_what_fits_and_leaves_the_machine_out() -> None:
    traced = {
        "system/cpu_percent": Traced(3, 2, 50.0, 1, [1.0, 2.0, 3.0]),
        "loss": Traced(3, 2, 0.25, 1, [1.0, 0.5, 0.25]),
        "auc": Traced(1, 0, 0.9, 1, [0.9]),
    }
    assert live_line("run-1", 75.0, traced, 100) == "run-1 1:15  loss 0.25 █▃▁  auc 0.9 ▄"
    assert live_line("run-1", 75.0, traced, 30) == "run-1 1:15  loss 0.25 █▃▁"
    assert live_line("run-1", 75.0, {}, 100) == ""


def test_the_card_is_well_formed_whatever_a_run_is_called() -> None:
    traced = {"<b>&'\"": Traced(3, 2, math.nan, 1, [1.0, math.inf, 0.5, 0.25])}
    html = run_html("0" * 32, "<script>alert(1)</script>", "a&b", "running", {"<p>": "</td>"}, traced)
    ElementTree.fromstring(html)  # raises where a tag is not closed
    assert "<script" not in html
    assert "http" not in html


PROGRAM = """
import time
import loopwright as lw
with lw.start_run(name="shown", system_metrics_s=0):
    for step in range(30):
        lw.log_metric("loss", 30 - step)
        time.sleep(0.1)
"""


@pytest.mark.slow
@pytest.mark.parametrize("wanted", ["1", "0"])
def test_a_terminal_gets_a_live_line_unless_it_is_switched_off(tmp_path: Path, wanted: str) -> None:
    """A real terminal, as a shell would give it."""
    master, slave = pty.openpty()
    environment = {**os.environ, "LOOPWRIGHT_WORKSPACE": str(tmp_path), "LOOPWRIGHT_PROGRESS": wanted, "COLUMNS": "100"}
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    shown = b""
    try:
        while part := os.read(master, 4096):
            shown += part
    except OSError:  # the other end is closed
        pass
    assert process.wait(30) == 0
    os.close(master)
    lines = [line for line in shown.decode().split("\r") if "shown" in line]
    assert (len(lines) >= 2) == (wanted == "1")
    if wanted == "1":
        assert lines[-1].rstrip().endswith("loss 1 ██▇▆▆▅▄▃▃▂▁▁")
