"""Azure ML's inference server, unmodified, runs our bundle; the inference process answers the same request alike."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest
from tests.serve.conftest import Served

from loopwright.models import Bundle
from loopwright.serve import ServedEndpoint, Variant

SCRIPT = Path(__file__).with_name("score.py")


@pytest.fixture(scope="module")
def theirs(bundle: Bundle) -> Iterator[str]:
    """The address of Azure ML's own server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).with_name("azmlinfsrv")), "--entry_script", str(SCRIPT), "--port", str(port)]
    environ = {**os.environ, "AZUREML_MODEL_DIR": str(bundle.folder)}
    process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 60
        while True:
            assert time.monotonic() < end, "Azure ML's server did not start"
            assert process.poll() is None, f"Azure ML's server ended with {process.returncode}"
            try:
                if httpx.get(url).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def ours(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an inference process that serves the bundle."""
    served = Served(tmp_path_factory.mktemp("azureml"))
    served.publish(ServedEndpoint("trips", "salt", (Variant("champion", "model:trips@7", served.put(bundle)),)))
    with served.start(stderr=subprocess.DEVNULL) as process:
        yield process.url


def test_both_servers_answer_as_the_original_model_does(
    theirs: str, ours: str, rows: pl.DataFrame, wanted: Any
) -> None:
    body = {"input_data": {"columns": rows.columns, "data": [list(row) for row in rows.rows()]}}
    answers = [httpx.post(f"{url}/score", json=body) for url in (theirs, ours)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].headers["content-type"].partition(";")[0] == answers[1].headers["content-type"].partition(";")[0]
    for answer in answers:
        np.testing.assert_allclose([row["probability"] for row in answer.json()], wanted, atol=1e-5)
    assert list(answers[0].json()[0]) == list(answers[1].json()[0])


def test_both_tell_that_they_live_in_the_same_words(theirs: str, ours: str) -> None:
    assert httpx.get(theirs).text == httpx.get(ours).text == "Healthy"
