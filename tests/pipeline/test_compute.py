"""The setting `compute`: what is none, what is missing, and what no other machine could reach is said before a run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from loopwright.core import Invalid, Scope, Settings, load_settings
from loopwright.pipeline import PipelineService
from loopwright.store import Stores
from loopwright.track import RunService

Make = Callable[[str], PipelineService]


@pytest.fixture
def service(make_sqlite_stores: Callable[..., Stores], tmp_path: Path) -> Make:
    def make(compute: str) -> PipelineService:
        stores = make_sqlite_stores(tmp_path, settings=Settings(compute=compute))
        return PipelineService(stores, Scope(), runs=RunService(stores, Scope()))

    return make


@pytest.mark.parametrize(
    ("compute", "says"),
    [
        ("dask", r"compute = 'dask' is no place to run steps \(say \"local\""),
        ("ray://", "no place to run steps"),
        ("http://example.com:80", "no place to run steps"),
        ("ray", r"needs the package 'ray', which is not installed \(pip install 'loopwright\[ray\]'\)"),
        ("127.0.0.1:6379", "cannot reach the embedded db, objects, tables, online of this workspace"),
    ],
)
def test_a_place_that_cannot_be_is_refused_before_a_run_begins(
    service: Make, monkeypatch: pytest.MonkeyPatch, compute: str, says: str
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed, wherever this test runs
    pipelines = service(compute)
    with pytest.raises(Invalid, match=says):
        pipelines.run("flow:main")
    assert pipelines.runs.search() == []


def test_the_place_comes_from_the_file_and_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "loopwright.toml"
    path.write_text('compute = "ray"\n', encoding="utf-8")
    assert load_settings(tmp_path / "none.toml", {}).compute == "local"
    assert load_settings(path, {}).compute == "ray"
    assert load_settings(path, {"LOOPWRIGHT_COMPUTE": "ray://head:10001"}).compute == "ray://head:10001"
