"""Schemathesis, unmodified, tries what the two OpenAPI descriptions promise: no fault, no status or form untold."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import httpx
import psutil

from loopwright.serve import InferenceProcess

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
CHECKS += ",unsupported_method,allow_header_conformance"
# Random rows fit hardly any model, so what a sound request is cannot be told from the description.
NEGATIVE = CHECKS + ",negative_data_rejection"
MIB = 1 << 20


def tried(url: str, folder: Path, *options: str) -> str:
    """What schemathesis finds; the test fails where it finds a fault."""
    command = [str(Path(sys.executable).with_name("schemathesis")), "--no-color", "run", f"{url}/openapi.json"]
    command += ["--url", url, "--phases", "examples,coverage,fuzzing", "--continue-on-failure", "--seed", "1"]
    command += ["--suppress-health-check", "all", "--request-timeout", "30", "--generation-database", "none", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=900)
    found = done.stdout.partition(" FAILURES ")[2].partition(" WARNINGS ")[0]
    assert done.returncode == 0, found[:6000] or done.stdout[-3000:] + done.stderr[-2000:]
    return done.stdout


def cases(told: str) -> int:
    found = re.search(r"(\d+) generated", told)
    return int(found[1]) if found else 0


def test_the_inference_process_keeps_to_its_description(process: InferenceProcess, tmp_path: Path) -> None:
    own = psutil.Process(process.pid)
    # What unloads a model would leave nothing to ask.
    options = ["--exclude-path-regex", "unload|/repository/models", "--exclude-method", "DELETE"]
    assert cases(tried(process.url, tmp_path, "--checks", NEGATIVE, "-n", "15", *options)) > 1500
    before = own.memory_info().rss
    tried(process.url, tmp_path, "--checks", CHECKS, "-n", "5", "--seed", "2", *options)
    assert own.memory_info().rss - before < 30 * MIB
    figures = httpx.get(f"{process.url}/metrics").text
    assert not [line for line in figures.splitlines() if re.match(r'loopwright_requests_total.*"50[0-2]"', line)]


def test_loading_and_unloading_keep_to_the_description(process: InferenceProcess, tmp_path: Path) -> None:
    tried(process.url, tmp_path, "--checks", CHECKS, "-n", "10", "--include-path-regex", "load|^/models")
    for name in ("trips", "plus"):
        httpx.post(f"{process.url}/v2/repository/models/{name}/load").raise_for_status()
        assert httpx.get(f"{process.url}/v2/models/{name}/ready").status_code == 200


def test_the_workspace_keeps_to_its_description(tmp_path: Path) -> None:
    ours = [sys.executable, "-m", "loopwright"]
    where = ["--workspace", str(tmp_path), "--json"]
    made = subprocess.run([*ours, "tokens", "create", "anna", '"admin"', *where], capture_output=True, check=True)
    token = json.loads(made.stdout)["secret"]
    with (tmp_path / "up.log").open("wb") as log:
        up = subprocess.Popen([*ours, "up", "--port", "0", *where], stdout=subprocess.PIPE, stderr=log)
    assert up.stdout is not None
    try:
        url = json.loads(up.stdout.readline())["url"]
        told = tried(url, tmp_path, "--checks", CHECKS, "-n", "5", "-H", f"Authorization: Bearer {token}")
        assert cases(told) > 5000
        assert httpx.get(f"{url}/health").status_code == 200
        assert "failed" not in (tmp_path / "up.log").read_text()
    finally:
        up.terminate()
        up.wait(20)
