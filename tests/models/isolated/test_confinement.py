"""What a model's code cannot do, tried by a model."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from tests.models.isolated.sources import Prying

from loopwright.models import IsolatedPredictor, build_bundle
from loopwright.models.isolated.landlock import confine_files

linux = pytest.mark.skipif(sys.platform != "linux", reason="Landlock and seccomp are Linux's")


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IsolatedPredictor]:
    os.environ["LOOPWRIGHT_TEST_SECRET"] = "hush"
    rows = pl.DataFrame({"order": ["", ""]})
    made = build_bundle(Prying, rows, folder=tmp_path_factory.mktemp("bundles") / "prying").predictor()
    assert isinstance(made, IsolatedPredictor)
    with made:
        yield made
    del os.environ["LOOPWRIGHT_TEST_SECRET"]


def tried(predictor: IsolatedPredictor, order: str) -> str:
    return str(predictor.predict_rows([[order]])["told"][0])


def test_it_sees_nothing_of_the_servers_environment(predictor: IsolatedPredictor) -> None:
    found = tried(predictor, "sorted(os.environ)")
    assert "PATH" in found
    assert "SECRET" not in found


def test_it_has_limits_that_it_cannot_raise(predictor: IsolatedPredictor) -> None:
    limits = tried(predictor, "__import__('resource').getrlimit(__import__('resource').RLIMIT_NOFILE)")
    assert limits == "(256, 256)"
    assert "memory" in predictor.confinement


def test_it_can_write_to_its_scratch_folder(predictor: IsolatedPredictor) -> None:
    assert tried(predictor, "Path('note').write_text('hello')") == "5"
    assert tried(predictor, "Path(os.environ['HOME'], 'note').read_text()") == "'hello'"


@linux
def test_it_can_read_and_write_no_other_files(predictor: IsolatedPredictor, tmp_path: Path) -> None:
    if not any(item.startswith("landlock") for item in predictor.confinement):
        pytest.skip("the kernel has no Landlock")
    secret = tmp_path / "loopwright.toml"
    secret.write_text("token = 'hush'")
    assert tried(predictor, f"Path({str(secret)!r}).read_text()").startswith("PermissionError")
    assert tried(predictor, f"Path({str(secret)!r}).write_text('')").startswith("PermissionError")
    assert tried(predictor, f"Path({str(secret)!r}).unlink()").startswith("PermissionError")
    assert tried(predictor, f"os.listdir({str(tmp_path)!r})").startswith("PermissionError")
    assert tried(predictor, f"Path({str(predictor_folder(predictor))!r}, 'bundle.json').write_text('')").startswith(
        "PermissionError"
    )
    assert secret.read_text() == "token = 'hush'"


@linux
@pytest.mark.parametrize("file", ["environ", "mem", "maps", "cwd"])
def test_it_cannot_look_into_the_server(predictor: IsolatedPredictor, file: str) -> None:
    assert tried(predictor, f"open('/proc/{os.getpid()}/{file}').read(1)").startswith("PermissionError")


@linux
@pytest.mark.parametrize(
    "order",
    [
        "__import__('socket').socket()",
        "__import__('socket').socket(__import__('socket').AF_UNIX)",
        "__import__('socket').create_connection(('127.0.0.1', 9))",
        "os.fork()",
        "__import__('subprocess').run(['/bin/true'])",
        "os.execv('/bin/true', ['true'])",
        "__import__('resource').setrlimit(7, (10, 10))",
        "os.kill(THE_TESTS, 0)",
    ],
)
def test_it_has_no_network_no_programs_and_no_say_over_others(predictor: IsolatedPredictor, order: str) -> None:
    assert "seccomp" in predictor.confinement
    order = order.replace("THE_TESTS", str(os.getpid()))  # not in a test's name, which all workers must share
    assert tried(predictor, order).startswith(("PermissionError", "ValueError: not allowed"))


@linux
def test_threads_still_work(predictor: IsolatedPredictor) -> None:
    order = "__import__('concurrent.futures').futures.ThreadPoolExecutor(3).submit(len, 'four').result()"
    assert tried(predictor, order) == "4"


@linux
def test_a_kernel_without_landlock_is_told_and_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from loopwright.models.isolated import landlock

    monkeypatch.setattr(landlock, "_call", lambda *_, **__: -1)
    assert confine_files(["/usr"], []) == 0


def predictor_folder(predictor: IsolatedPredictor) -> str:
    return str(predictor._keeper._job.folder)
