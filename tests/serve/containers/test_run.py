"""The image in a real container: runc runs it as another user on a read-only root, and it answers.

Needs root, runc, umoci, and a root file system with this version of Python, named by LOOPWRIGHT_TEST_ROOTFS:

    debootstrap --variant=minbase --include=python3 bookworm FOLDER
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import uuid
from pathlib import Path

import httpx
import pytest
from tests.serve.conftest import adding_bundle

from loopwright.serve.containers import write_image

ROOTFS = os.environ.get("LOOPWRIGHT_TEST_ROOTFS", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (ROOTFS and shutil.which("runc") and shutil.which("umoci")),
        reason="needs runc, umoci, LOOPWRIGHT_TEST_ROOTFS",
    ),
]


def test_a_container_answers_as_another_user_on_a_read_only_root(tmp_path: Path) -> None:
    image, folder = tmp_path / "image", tmp_path / "container"
    write_image(
        adding_bundle(1.0, tmp_path / "adder"), image, Path(ROOTFS), name="adder", ref="model:adder@1", digest="d"
    )
    subprocess.run(["umoci", "unpack", "--image", f"{image}:latest", str(folder)], check=True, capture_output=True)
    port = free_port()
    configure(folder / "config.json", port)
    name = f"loopwright-{uuid.uuid4().hex[:8]}"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(["runc", "run", "--bundle", str(folder), name], stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}/v2"
            wait_until_ready(f"{url}/health/ready", process, tmp_path / "log")
            body = {"inputs": [{"name": "x", "datatype": "FP64", "shape": [2], "data": [1.0, 41.0]}]}
            answer = httpx.post(f"{url}/models/adder/infer", json=body, trust_env=False)
            assert answer.json()["outputs"][0]["data"] == [2.0, 42.0]
            who = subprocess.run(
                ["runc", "exec", name, "/usr/bin/id", "-u"], capture_output=True, text=True, check=True
            )
            assert who.stdout.strip() == "65532"
            wrote = subprocess.run(
                ["runc", "exec", name, "/bin/sh", "-c", "echo x > /model/x"], capture_output=True, check=False
            )
            assert b"Read-only file system" in wrote.stderr
        finally:
            subprocess.run(["runc", "kill", name, "TERM"], check=False, capture_output=True)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    assert process.returncode == 0


def configure(path: Path, port: int) -> None:
    """Our part of a runtime's configuration: the port, a read-only root, a temporary folder, this machine's network."""
    config = json.loads(path.read_text())
    config["process"]["terminal"] = False
    config["process"]["args"] += ["--port", str(port)]
    config["root"]["readonly"] = True
    kept = [item for item in config["mounts"] if item["destination"] in ("/proc", "/dev", "/dev/shm")]
    scratch = {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"]}
    config["mounts"] = [*kept, scratch]
    config["linux"]["namespaces"] = [item for item in config["linux"]["namespaces"] if item["type"] != "network"]
    path.write_text(json.dumps(config))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(url, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise AssertionError(log.read_text())
