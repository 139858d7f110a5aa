"""The fluent front, into a workspace on this machine."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import numpy as np
import pytest

import loopwright as lw
from loopwright.core import Conflict, Invalid, NotFound, new_id
from loopwright.track import MetricPoint, Recorder, RunStatus
from loopwright.workspace import Workspace

Program = Callable[..., "subprocess.Popen[str]"]


def test_a_run_and_all_that_it_logs_is_in_the_workspace_when_the_block_ends(ws: Workspace, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights.bin").write_bytes(b"123")
    with lw.start_run("mnist", "first", params={"lr": 0.1}, tags={"who": "me"}) as run:
        for value in (3.0, 2.0, 1.0):
            lw.log_metric("loss", value)
        lw.log_metrics({"auc": 0.5, "nothing": math.nan}, step=7)
        lw.log_metrics({"auc": 0.75})
        lw.log_params({"depth": 3})
        lw.set_tags({"stage": "done"})
        lw.log_artifact(tmp_path / "model")
        lw.log_artifact(b"abc", "notes/raw.bin")
        run.log_input("dataset:flights@3", "train")
        run.log_points([MetricPoint("old", 1.5, 3, datetime(2026, 1, 2, tzinfo=UTC))])
    stored = ws.runs.get(run.id)
    assert (stored.experiment, stored.name, stored.status) == ("mnist", "first", "finished")
    assert stored.params == {"lr": "0.1", "depth": "3"}
    assert stored.tags == {"who": "me", "stage": "done"}
    assert stored.metrics == {"loss": 1.0, "auc": 0.75, "old": 1.5}
    assert stored.not_finite == {"nothing": "NaN"}
    assert [item.ref for item in stored.inputs] == ["dataset:flights@3"]
    assert ws.runs.history(run.id, "loss").steps == [0, 1, 2]
    assert ws.runs.history(run.id, "auc").steps == [7, 8]
    assert ws.runs.history(run.id, "old").times_us == [1767312000000000]
    assert [item.path for item in ws.runs.artifacts(run.id)] == ["model/weights.bin", "notes/raw.bin"]
    assert ws.runs.artifact(run.id, "model/weights.bin") == b"123"
    assert stored.ended_at is not None
    assert stored.started_at < stored.ended_at
    assert not list((ws.location.data / "spool").glob("*/files/*"))


def test_steps_count_up_per_key_and_go_on_from_a_step_that_was_named(ws: Workspace) -> None:
    with lw.start_run() as run:
        for step in (None, None, 10, None):
            lw.log_metric("a", 1.0, step)
        lw.log_metric("b", 1.0)
    assert ws.runs.history(run.id, "a").steps == [0, 1, 10, 11]
    assert ws.runs.history(run.id, "b").steps == [0]


def test_what_other_libraries_call_a_number_is_one(ws: Workspace) -> None:
    with lw.start_run() as run:
        for value in (1, True, np.float32(0.5), np.int64(3), np.array(2.5), "NaN", "-Infinity"):
            lw.log_metric("a", value)
        lw.log_metric("a", 1.0, np.int64(100))
        lw.log_metric("a", 1.0, 200.0)  # type: ignore[arg-type]  # Lightning gives such steps
    found = ws.runs.history(run.id, "a")
    assert found.floats()[:5] == [1.0, 1.0, 0.5, 3.0, 2.5]
    assert [str(value) for value in found.floats()[5:7]] == ["nan", "-inf"]
    assert found.steps[-2:] == [100, 200]


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrong",
    [
        lambda: lw.log_metric("a", "no number"),
        lambda: lw.log_metric("a", None),
        lambda: lw.log_metric("", 1.0),
        lambda: lw.log_metric(["a"], 1.0),
        lambda: lw.log_metric("a", 1.0, 1.5),
        lambda: lw.log_metric("a", 1.0, 2**63),
        lambda: lw.log_metrics({"good": 1.0, "bad\n": 2.0}),
        lambda: lw.log_metrics({"good": 1.0, "a": "no number"}),
        lambda: lw.log_params({"p": "x" * 10_001}),
        lambda: lw.set_tags({"": "x"}),
        lambda: lw.log_artifact(b"x", "../up"),
        lambda: lw.log_artifact(b"x"),
        lambda: lw.start_run(name="a\nb", nested=True),
        lambda: lw.start_run(run_id="../../x", nested=True),
    ],
)
def test_wrong_use_is_an_error_at_once_and_leaves_nothing(ws: Workspace, wrong: Callable[[], None]) -> None:
    with lw.start_run() as run, pytest.raises(Invalid):
        wrong()
    stored = ws.runs.get(run.id)
    assert (stored.metrics, stored.params, stored.tags, ws.runs.artifacts(run.id)) == ({}, {}, {}, [])


def test_a_param_keeps_its_first_value(ws: Workspace) -> None:
    with lw.start_run(params={"lr": 1}) as run:
        lw.log_params({"lr": "1"})
        with pytest.raises(Conflict):
            lw.log_params({"lr": 2})
    assert ws.runs.get(run.id).params == {"lr": "1"}


def test_a_file_that_is_not_there_is_told(root: Path) -> None:
    with lw.start_run(), pytest.raises(NotFound):
        lw.log_artifact(root / "nothing.bin")


def test_outside_a_run_logging_starts_one(ws: Workspace) -> None:
    assert lw.active_run() is None
    lw.log_metric("a", 1.0)
    run = lw.active_run()
    assert run is not None
    run.finish()
    assert lw.active_run() is None
    assert ws.runs.get(run.id).metrics == {"a": 1.0}


def test_runs_nest_when_they_are_asked_to(ws: Workspace) -> None:
    with lw.start_run() as outer:
        with pytest.raises(Conflict, match="nested=True"):
            lw.start_run()
        with lw.start_run(nested=True) as inner:
            lw.log_metric("a", 1.0)
        lw.log_metric("b", 1.0)
    assert ws.runs.get(inner.id).parent == outer.id
    assert (ws.runs.get(inner.id).metrics, ws.runs.get(outer.id).metrics) == ({"a": 1.0}, {"b": 1.0})


def test_an_exception_fails_the_run_and_its_trace_is_kept(ws: Workspace) -> None:
    with pytest.raises(ZeroDivisionError), lw.start_run() as run:
        _ = 1 / 0
    stored = ws.runs.get(run.id)
    assert (stored.status, stored.error) == ("failed", "ZeroDivisionError: division by zero")
    assert b"1 / 0" in ws.runs.artifact(run.id, "error/traceback.txt")


@pytest.mark.parametrize(
    ("stop", "status"), [(KeyboardInterrupt(), "killed"), (SystemExit(3), "killed"), (SystemExit(0), "finished")]
)
def test_an_interruption_kills_the_run(ws: Workspace, stop: BaseException, status: str) -> None:
    with pytest.raises(type(stop)), lw.start_run() as run:
        raise stop
    assert ws.runs.get(run.id).status == status


def test_a_run_goes_on_by_its_id(ws: Workspace) -> None:
    first = lw.start_run()
    lw.log_metric("a", 1.0)
    first.fail(ValueError("x"))
    assert ws.runs.get(first.id).status == "failed"
    with lw.start_run(run_id=first.id) as second:
        lw.log_metric("a", 2.0, 5)
    assert second.id == first.id
    assert ws.runs.get(first.id).status == "finished"
    assert ws.runs.history(first.id, "a").steps == [0, 5]


def test_threads_log_to_the_active_run_and_may_have_runs_of_their_own(ws: Workspace) -> None:
    ids: list[str] = []

    def work(number: int) -> None:
        for step in range(2_000):
            lw.log_metric(f"shared/{number}", step, step)
            lw.log_metrics({"all": number}, step * 8 + number)
        with lw.start_run(name=f"own-{number}", nested=True) as own:
            lw.log_metric("mine", number)
        ids.append(own.id)

    with lw.start_run() as run:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert lw.active_run() is run
    for number in range(8):
        assert ws.runs.history(run.id, f"shared/{number}").steps == list(range(2_000))
    assert ws.runs.history(run.id, "all").steps == list(range(16_000))
    assert sorted(ws.runs.get(own).metrics["mine"] for own in ids) == list(range(8))
    assert {ws.runs.get(own).parent for own in ids} == {run.id}


@pytest.mark.slow
def test_logging_in_a_signals_handler_neither_blocks_nor_loses_a_point(ws: Workspace) -> None:
    """The handler runs in the middle of the calls that it interrupts."""
    counter = count()

    def handle(_number: int, _frame: object) -> None:
        step = next(counter)  # a handler may be interrupted by the next signal
        lw.log_metric("handled", step, step)

    before = signal.signal(signal.SIGALRM, handle)
    try:
        with lw.start_run() as run:
            signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0005)
            steps, deadline = 0, time.monotonic() + 1.0
            while time.monotonic() < deadline:
                lw.log_metric("a", steps, steps)
                steps += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    seen = next(counter)
    assert seen > 50
    assert ws.runs.history(run.id, "a").steps == list(range(steps))
    assert ws.runs.history(run.id, "handled").steps == list(range(seen))


PLAIN = """
import os, sys, signal, time
import loopwright as lw
run = lw.start_run()
print(run.id, flush=True)
lw.log_metric("a", 1.0)
{end}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "status", "code"),
    [
        ("", "finished", 0),
        ("raise ValueError('no')", "failed", 1),
        ("os.kill(os.getpid(), signal.SIGINT); time.sleep(9)", "killed", None),  # 1 or -2: Python itself is not sure
        ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)", "killed", 128 + signal.SIGTERM),
    ],
)
def test_a_run_that_nobody_ends_ends_with_its_process(
    ws: Workspace, program: Program, end: str, status: str, code: int | None
) -> None:
    process = program(PLAIN.format(end=end))
    run = process.communicate(timeout=60)[0].strip()
    assert process.returncode if code is None else process.returncode == code
    assert ws.runs.get(run).status == status
    assert ws.runs.get(run).metrics == {"a": 1.0}


@pytest.mark.slow
def test_a_handler_of_ones_own_for_sigterm_stays(ws: Workspace, program: Program) -> None:
    own = "signal.signal(signal.SIGTERM, lambda *_: print('mine', flush=True))\n"
    process = program(PLAIN.replace("run = ", own + "run = ").format(end="os.kill(os.getpid(), signal.SIGTERM)"))
    run, mine = process.communicate(timeout=60)[0].split()
    assert mine == "mine"
    assert ws.runs.get(run).status == "finished"


@pytest.mark.slow
def test_the_machine_is_watched_off_the_hot_path(ws: Workspace) -> None:
    with lw.start_run(system_metrics_s=0.05) as run:
        time.sleep(0.6)
    found = ws.runs.get(run.id).metrics
    assert {"system/cpu_percent", "system/memory_percent", "system/process_memory_mib"} <= found.keys()
    assert found["system/process_memory_mib"] > 10
    assert 0 < found["system/memory_percent"] <= 100
    steps = ws.runs.history(run.id, "system/cpu_percent").steps
    assert steps == list(range(len(steps)))
    assert len(steps) >= 2


def test_a_refusal_is_told_and_the_rest_is_kept(ws: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    with lw.start_run(params={"lr": 1}) as first:
        pass
    with lw.start_run(run_id=first.id) as run:
        lw.log_params({"lr": 2})  # nobody here knows the other value
        lw.log_metric("a", 1.0)
    assert ws.runs.get(run.id).params == {"lr": "1"}
    assert ws.runs.get(run.id).metrics == {"a": 1.0}
    assert "refuses params or tags" in caplog.text


def test_a_run_before_it_is_delivered_can_be_looked_at(ws: Workspace) -> None:
    with lw.start_run(params={"lr": "<b>"}) as run:
        for step in range(1_000):
            lw.log_metric("loss", 1 / (1 + step))
        html = run._repr_html_()
    assert "&lt;b&gt;" in html
    assert "<polyline" in html
    assert "0.001" in html
    assert isinstance(run, Recorder)
    assert run.status is RunStatus.FINISHED
    assert run.traced()["loss"].count == 1_000


def test_nothing_heavy_is_loaded_by_the_caller() -> None:
    """SQL, Arrow and the server's framework are for the thread that delivers."""
    text = (
        "import sys, loopwright.recording\n"
        "print([name for name in ('sqlalchemy', 'numpy', 'polars', 'httpx', 'starlette') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_id_from_outside_begins_a_run_of_that_id(ws: Workspace) -> None:
    chosen = new_id()
    with lw.start_run(run_id=chosen):
        lw.log_metric("a", 1.0)
    assert ws.runs.get(chosen).status == "finished"
