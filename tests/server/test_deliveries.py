"""The routes that take what spools hold: who may use them, what they refuse, and that each batch counts once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.server.conftest import Running
from tests.server.test_access import CALLERS, ask, expected

from loopwright.core import Forbidden, Invalid, NotFound, Scope, Unavailable, new_id
from loopwright.server import RemoteTarget
from loopwright.store import Stores
from loopwright.track import FileKept, RunService, SpoolBatch
from loopwright.track.spool.notes import Points, RunBegan

DELIVER, FILE = "/api/v1/spools/deliver", "/api/v1/spools/keep_file"
OCTETS = {"Content-Type": "application/octet-stream"}


@pytest.fixture
def services(
    services: dict[str, tuple[type, Callable[[Scope], Any]]], stores: Stores
) -> dict[str, tuple[type, Callable[[Scope], Any]]]:
    return {**services, "runs": (RunService, lambda scope: RunService(stores, scope))}


def batch(run: str, count: int = 5, spool: str = "", start: int = 0) -> SpoolBatch:
    steps = np.arange(count, dtype="<i8")
    points = Points(run, "loss", steps.tobytes(), (steps + 1).tobytes(), steps.astype("<f8").tobytes())
    return SpoolBatch(spool or new_id(), 1, start, start + 320, [RunBegan(run, "e", "n", 5)], [points])


def test_only_those_who_may_write_runs_deliver(server: Running) -> None:
    routes = [route for route in server.app.state.specs if "/spools/" in route.path]
    assert {route.path for route in routes} == {DELIVER, FILE}
    for route in routes:
        assert route.permission == "runs:write"
        for who in CALLERS:
            refusal, status = expected(route, who), ask(server, route, who)
            # Whoever may is told that JSON is the wrong type, which is looked at last.
            assert status == (refusal or 415), (route.path, who)


def test_a_batch_counts_once_and_its_file_is_kept(server: Running, stores: Stores, tmp_path: Path) -> None:
    run, spool = new_id(), new_id()
    target = RemoteTarget(server.url, server.tokens["editor"], None)
    for _ in range(3):
        assert target.deliver(batch(run, spool=spool)).position == 320
    assert target.deliver(SpoolBatch(spool, 1, 0, 0)).position == 320
    (tmp_path / "big").write_bytes(bytes(range(256)) * 20_000)
    for _ in range(2):
        target.keep_file(FileKept(run, "a/big.bin", "x", 5_120_000), tmp_path / "big")
    target.close()
    runs = RunService(stores, Scope())
    assert runs.history(run, "loss").steps == [0, 1, 2, 3, 4]
    assert runs.artifact(run, "a/big.bin") == bytes(range(256)) * 20_000
    assert runs.get(run).actor == "user:ann"
    assert list(stores.data.glob("upload-*")) == []


def test_what_cannot_be_kept_is_refused_in_its_own_kind(server: Running, tmp_path: Path) -> None:
    run = new_id()
    (tmp_path / "file").write_bytes(b"x")
    editor = RemoteTarget(server.url, server.tokens["editor"], None)
    editor.deliver(batch(run))
    with pytest.raises(Invalid, match="not a safe relative path"):
        editor.keep_file(FileKept(run, "../up", "x", 1), tmp_path / "file")
    with pytest.raises(NotFound):
        editor.keep_file(FileKept(new_id(), "a", "x", 1), tmp_path / "file")
    with pytest.raises(Forbidden):
        RemoteTarget(server.url, server.tokens["viewer"], None).deliver(batch(new_id()))
    refused = RemoteTarget(server.url, server.tokens["outsider"], "elsewhere").deliver(batch(run)).refused
    assert [item.run for item in refused] == [run, run]
    with pytest.raises(Unavailable):
        RemoteTarget("http://127.0.0.1:9", None, None).deliver(batch(run))


@pytest.mark.slow
@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x90", msgspec.msgpack.encode({"spool": "x"}), b"\xff" * 1000])
def test_what_is_no_batch_is_told_so(server: Running, body: bytes) -> None:
    with server.client("editor", **OCTETS) as http:
        answer = http.post(DELIVER, content=body)
    assert answer.status_code == 400
    assert "no batch of a spool" in answer.json()["error"]["message"]


def test_a_file_without_a_run_or_path_is_told_so(server: Running) -> None:
    with server.client("editor", **OCTETS) as http:
        for query in ("", "?run=x", "?path=x"):
            assert http.post(FILE + query, content=b"x").status_code == 400
