"""A model that crashes, hangs or takes too much harms its worker only, and comes back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.models.isolated.sources import Misbehaving

from loopwright.core import Unavailable
from loopwright.models import Bundle, IsolatedPredictor, Limits, ModelFailed, build_bundle

# A call that fails for another reason must come to it before its time is over, on a busy machine, too.
LIMITS = Limits(memory_bytes=300 << 20, call_timeout_s=30, scratch_bytes=4 << 20, answer_bytes=16 << 20)
HASTY = Limits(memory_bytes=300 << 20, call_timeout_s=1.5, scratch_bytes=4 << 20, answer_bytes=16 << 20)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    rows = pl.DataFrame({"order": ["fine", "well"] * 10, "number": np.arange(20.0)})
    return build_bundle(Misbehaving, rows, limits=LIMITS, folder=tmp_path_factory.mktemp("bundles") / "odd")


@pytest.fixture
def predictor(bundle: Bundle, request: pytest.FixtureRequest) -> Iterator[IsolatedPredictor]:
    made = bundle.predictor(limits=getattr(request, "param", LIMITS))
    assert isinstance(made, IsolatedPredictor)
    with made:
        yield made


def ask(predictor: IsolatedPredictor, order: str) -> list[Any]:
    values: list[Any] = predictor.predict_rows([[order, 1.0], [order, 2.5]])["value"].tolist()
    return values


def until(ready: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_a_model_needs_travels_in_its_bundle(bundle: Bundle) -> None:
    assert bundle.manifest.executes_code
    predictor = bundle.predictor()
    assert isinstance(predictor, IsolatedPredictor)
    with predictor:
        assert predictor.limits.memory_bytes == LIMITS.memory_bytes
        assert predictor.limits.call_timeout_s == LIMITS.call_timeout_s
        assert not predictor.inline


@pytest.mark.fault
@pytest.mark.parametrize(
    ("predictor", "order", "told"),
    [
        (LIMITS, "crash", "SIGSEGV"),
        (LIMITS, "exit", "exit code 3"),
        (HASTY, "hang", "longer than 1.5 s"),
        (HASTY, "spin", "longer than 1.5 s"),
        (LIMITS, "memory", "300 MiB of memory"),
    ],
    indirect=["predictor"],
)
def test_a_worker_that_breaks_fails_one_call_and_is_replaced(
    predictor: IsolatedPredictor, order: str, told: str
) -> None:
    first = predictor.worker_pid
    with pytest.raises(ModelFailed, match=told):
        ask(predictor, order)
    until(lambda: predictor.restarts == 1)
    assert ask(predictor, "fine") == [2.0, 5.0]
    assert predictor.worker_pid != first
    assert not alive(first)


@pytest.mark.parametrize(
    ("order", "told"),
    [
        ("raise", "ValueError: the row is odd$"),
        ("leave", "SystemExit"),
        ("short", "shape"),
        ("other", "promised value"),
        ("text", "promised float64"),
        ("objects", "neither numbers nor strings"),
    ],
)
def test_an_answer_that_is_none_is_refused_and_the_worker_goes_on(
    predictor: IsolatedPredictor, order: str, told: str
) -> None:
    worker = predictor.worker_pid
    with pytest.raises(ModelFailed, match=told):
        ask(predictor, order)
    assert ask(predictor, "fine") == [2.0, 5.0]
    assert predictor.worker_pid == worker


@pytest.mark.fault
def test_an_answer_that_is_too_large_is_never_taken_in(predictor: IsolatedPredictor) -> None:
    with pytest.raises(ModelFailed, match="at most"):
        ask(predictor, "flood")


@pytest.mark.fault
def test_a_worker_that_fills_its_scratch_folder_is_killed(predictor: IsolatedPredictor) -> None:
    with pytest.raises(ModelFailed, match="scratch folder"):
        ask(predictor, "scratch")


@pytest.mark.fault
def test_a_worker_that_breaks_again_and_again_waits_longer_and_calls_are_turned_away_at_once(
    predictor: IsolatedPredictor,
) -> None:
    for count in (1, 2):
        with pytest.raises(ModelFailed):
            ask(predictor, "exit")
        if count == 1:
            until(lambda: predictor.restarts == 1)
    start = time.monotonic()
    with pytest.raises(Unavailable, match="being restarted"):
        ask(predictor, "fine")
    assert predictor.restarts == 1  # turned away while it was down, not after a wait for it
    until(lambda: predictor.restarts == 2)
    assert time.monotonic() - start > 0.3
    assert ask(predictor, "fine") == [2.0, 5.0]


@pytest.mark.fault
def test_a_worker_killed_from_outside_comes_back(predictor: IsolatedPredictor) -> None:
    os.kill(predictor.worker_pid, signal.SIGKILL)
    with pytest.raises(ModelFailed, match="SIGKILL"):
        ask(predictor, "fine")
    until(lambda: predictor.restarts == 1)
    assert ask(predictor, "fine") == [2.0, 5.0]


def test_callers_in_many_threads_get_their_own_answers(predictor: IsolatedPredictor) -> None:
    wrong: list[object] = []

    def call(number: float) -> None:
        for _ in range(20):
            given = predictor.predict_rows([["fine", number]])["value"].tolist()
            if given != [2 * number]:
                wrong.append(given)

    threads = [threading.Thread(target=call, args=(float(number),)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_worker_ends_with_its_predictor(bundle: Bundle) -> None:
    predictor = bundle.predictor()
    assert isinstance(predictor, IsolatedPredictor)
    worker = predictor.worker_pid
    assert alive(worker)
    predictor.close()
    assert not alive(worker)
    with pytest.raises(Unavailable, match="closed"):
        ask(predictor, "fine")


def test_a_worker_ends_when_nobody_holds_its_predictor(bundle: Bundle) -> None:
    predictor = bundle.predictor()
    assert isinstance(predictor, IsolatedPredictor)
    worker = predictor.worker_pid
    del predictor
    until(lambda: not alive(worker))


@pytest.mark.fault
@pytest.mark.parametrize("order", ["fine", "spin"])
def test_a_worker_does_not_outlive_a_killed_server(bundle: Bundle, order: str) -> None:
    program = (
        "import sys, threading, time; from pathlib import Path; from loopwright.models import Bundle, Limits\n"
        "predictor = Bundle(Path(sys.argv[1])).predictor(limits=Limits(call_timeout_s=60))\n"
        "print(predictor.worker_pid, flush=True)\n"
        "predictor.predict_rows([[sys.argv[2], 1.0]])\ntime.sleep(60)"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", program, str(bundle.folder), order], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    worker = int(server.stdout.readline())
    time.sleep(0.3)
    assert alive(worker)
    server.kill()
    server.wait()
    until(lambda: not alive(worker))
