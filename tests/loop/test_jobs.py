"""Training jobs as processes: found again, ended with their children, and never overlooked when they end."""

from __future__ import annotations

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from tests.loop.world import LoopWorld

from loopwright.core import new_id
from loopwright.loop import Controller
from loopwright.loop.jobs import JobOrder, JobResult, Jobs, model_of
from loopwright.loop.passing import Pass


def sleeping_order(folder: Path, seconds: float = 60.0) -> JobOrder:
    """A job whose command line is as the real one's, for `python -m loopwright` found in `folder`."""
    package = folder / "loopwright"
    package.mkdir(exist_ok=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(
        f'import time\ntime.sleep({seconds})\nprint(\'{{"run_id": "x", "status": "finished"}}\')\n'
    )
    return JobOrder(new_id(), "a:b", {"days": 90, "text": "90", "word": "x"}, "default", "event:1", "loop:x")


def jobs_in(folder: Path) -> Jobs:
    return Jobs(folder / "jobs", folder, lambda: None)


def test_the_command_line_keeps_the_types_of_parameters(tmp_path: Path) -> None:
    arguments = sleeping_order(tmp_path).arguments(tmp_path)
    assert arguments[:6] == [sys.executable, "-m", "loopwright", "pipeline", "run", "a:b"]
    assert [each for each in arguments if "=" in each] == ["days=90", 'text="90"', "word=x"]
    assert arguments[-9:-7] == ["--actor", "loop:x"]
    assert arguments[-7:] == ["--cause", "event:1", "--project", "default", "--json", "--workspace", str(tmp_path)]


def test_a_job_is_found_again_by_a_successor_and_not_started_twice(tmp_path: Path) -> None:
    order = sleeping_order(tmp_path)
    first, second = jobs_in(tmp_path), jobs_in(tmp_path)
    try:
        first.ensure(order)
        while not first._processes[order.run_id].cmdline():  # the system shows it a moment after the start
            time.sleep(0.001)
        second.ensure(order)
        assert second.running(order.run_id)
        assert first._processes[order.run_id].pid == second._processes[order.run_id].pid
        assert (tmp_path / "jobs" / f"{order.run_id}.starts").stat().st_size == 1
    finally:
        second.stop(order.run_id)
    assert not first.running(order.run_id)
    assert not first.failed(order.run_id)


def test_a_job_that_ends_wakes_the_controller_and_leaves_its_result(tmp_path: Path) -> None:
    order, woken = sleeping_order(tmp_path, seconds=0.1), []
    jobs = Jobs(tmp_path / "jobs", tmp_path, lambda: woken.append(time.monotonic()))
    jobs.ensure(order)
    deadline = time.monotonic() + 30
    while not woken and time.monotonic() < deadline:
        time.sleep(0.01)
    assert woken
    assert not jobs.running(order.run_id)
    assert jobs.result(order.run_id) == JobResult("x", "finished")


@pytest.mark.slow
def test_stopping_ends_the_children_of_a_job_too(tmp_path: Path) -> None:
    order = sleeping_order(tmp_path)
    (tmp_path / "loopwright" / "__main__.py").write_text(
        "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    )
    jobs = jobs_in(tmp_path)
    jobs.ensure(order)
    process = jobs._processes[order.run_id]
    deadline = time.monotonic() + 30
    while not process.children() and time.monotonic() < deadline:
        time.sleep(0.01)
    (child,) = process.children()
    jobs.stop_all()
    assert not psutil.pid_exists(child.pid) or psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE


def test_a_job_that_is_killed_again_and_again_is_given_up(tmp_path: Path) -> None:
    jobs, order = jobs_in(tmp_path), sleeping_order(tmp_path)
    for _ in range(5):
        assert not jobs.exhausted(order.run_id)
        jobs.ensure(order)
        jobs.stop(order.run_id)
    assert jobs.exhausted(order.run_id)


def test_an_output_may_be_a_ref_or_a_record_with_one() -> None:
    outputs = {"model": "model:a@1", "record": {"ref": "model:a@2"}, "rows": 12}
    result = JobResult("x", "finished", outputs)
    assert model_of(result, "model") == "model:a@1"
    assert model_of(result, "record") == "model:a@2"
    assert model_of(result, "rows") == ""
    assert model_of(result, "nothing") == ""


def test_a_job_that_ended_is_watched_until_somebody_asks_for_it(tmp_path: Path) -> None:
    order, ended = sleeping_order(tmp_path, seconds=0.0), threading.Event()
    jobs = Jobs(tmp_path / "jobs", tmp_path, ended.set)
    for ask in (lambda: jobs.running(order.run_id), jobs.any_running):
        ended.clear()
        jobs.ensure(order)
        assert ended.wait(30)
        assert jobs.watched() == [order.run_id]
        assert not ask()
        assert jobs.watched() == []


class SlowPass(Pass):
    """Its first run lasts until the job has ended, without looking at it; the next one looks."""

    def __init__(self, world: LoopWorld, jobs: Jobs, order: JobOrder, told: list[str]) -> None:
        super().__init__(world, jobs, lambda: None)
        self._order, self._told = order, told

    def run(self) -> bool:
        if not self._jobs.watched() and not self._told:
            self._jobs.ensure(self._order)
            self._jobs._processes[self._order.run_id].wait(30)
            self._told.append("a pass ended")
        elif self._jobs.watched():
            time.sleep(0.2)  # long enough for a wrong answer to come first
            assert not self._jobs.running(self._order.run_id)
            self._told.append("the end of the job was seen")
        return False


def test_nothing_is_settled_while_the_end_of_a_job_is_unseen(small_world: LoopWorld, tmp_path: Path) -> None:
    told: list[str] = []
    controller = Controller(small_world, tick_s=20.0)
    controller._pass = SlowPass(small_world, controller._jobs, sleeping_order(tmp_path, seconds=0.0), told)
    with ThreadPoolExecutor(1) as pool:
        settling = pool.submit(controller.settle, 15.0)
        settling.add_done_callback(lambda _: told.append("settled"))
        while not controller._asked:
            time.sleep(0.01)
        controller.start()
        assert settling.result().settled
    controller.stop()
    assert told == ["a pass ended", "the end of the job was seen", "settled"]
