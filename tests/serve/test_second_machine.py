"""A second machine serves a model that looks features up: it has the database, Redis and the objects, and no more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import msgspec
import pytest
from tests.serve.test_lookups import World

from loopwright.workspace import open_workspace

pytestmark = [pytest.mark.postgres, pytest.mark.redis, pytest.mark.slow]
SERVE = [sys.executable, "-m", "loopwright", "serve", "model:delay@1", "--port", "0", "--json"]


def test_a_second_machine_looks_features_up_with_postgresql_redis_and_the_objects(
    postgres_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, place in (("DB", postgres_url), ("ONLINE", redis_url), ("OBJECTS", str(tmp_path / "objects"))):
        monkeypatch.setenv(f"LOOPWRIGHT_{name}", place)
    first, second, bare = (tmp_path / name for name in ("first", "second", "bare"))
    for folder in (first, second, bare):
        folder.mkdir()
    with open_workspace(first) as workspace:
        world = World(workspace)
        made, wanted = world.trained(tmp_path / "one")
        workspace.models.register("delay", made)
    rows = world.requests()
    process = subprocess.Popen(SERVE, cwd=second, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        url = msgspec.json.decode(process.stdout.readline())["url"]
        answer = httpx.post(f"{url}/endpoints/delay/predict", json={"rows": rows}, timeout=60)
        assert [item["outputs"]["value"] for item in answer.json()["predictions"]] == wanted
        unknown = httpx.post(f"{url}/endpoints/delay/predict", json={"rows": [{**rows[0], "origin": "ZZ"}]})
        assert (unknown.status_code, "origin='ZZ'" in unknown.json()["error"]) == (404, True)
    finally:
        process.terminate()
        process.wait(20)
    # Bundles are objects: they are in neither of the two.
    monkeypatch.setenv("LOOPWRIGHT_OBJECTS", str(bare / "objects"))
    done = subprocess.run(SERVE, cwd=bare, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "there is no object" in done.stderr) == (4, True), done.stderr
