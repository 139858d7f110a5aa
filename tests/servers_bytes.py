"""Redis and S3 for tests: private servers, or those in LOOPWRIGHT_TEST_REDIS and LOOPWRIGHT_TEST_S3."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.servers import Running, answers, find_program, free_port, shared_server, wait_until


class S3Place(msgspec.Struct, frozen=True):
    """A fresh bucket, and the storage options that lead to it."""

    url: str
    options: dict[str, str]


@pytest.fixture(scope="session")
def redis_server() -> str:
    """The URL of a Redis server without a database number."""
    return os.environ.get("LOOPWRIGHT_TEST_REDIS") or shared_server("redis", start_redis)


@pytest.fixture
def redis_url(redis_server: str) -> Iterator[str]:
    """An empty Redis database: each worker of the run has one of the sixteen to itself."""
    import redis

    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    url = f"{redis_server}/{int(worker) % 16}"
    client = redis.Redis.from_url(url)
    client.flushdb()
    yield url
    client.flushdb()
    client.close()


@pytest.fixture(scope="session")
def s3_server() -> str:
    """The endpoint of a server that speaks S3."""
    return os.environ.get("LOOPWRIGHT_TEST_S3") or shared_server("s3", start_s3)


@pytest.fixture
def s3_place(s3_server: str) -> S3Place:
    """A fresh bucket on the S3 server."""
    import boto3

    options = {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "us-east-1",
    }
    bucket = f"loopwright-{uuid.uuid4().hex}"
    client = boto3.client(
        "s3",
        endpoint_url=s3_server,
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
        region_name="us-east-1",
    )
    client.create_bucket(Bucket=bucket)
    client.close()
    return S3Place(f"s3://{bucket}/workspace", options)


def start_redis(folder: Path) -> Running:
    """Start a Redis that keeps nothing on disk."""
    program = find_program("redis-server", "apt-get install redis-server, or set LOOPWRIGHT_TEST_REDIS to a URL")
    port = free_port()
    arguments = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    return Running(f"redis://127.0.0.1:{port}", pid=_start([*arguments, "--dir", str(folder)], folder, "redis", port))


def start_s3(folder: Path) -> Running:
    """Start moto's server: the S3 protocol over real HTTP, with conditional puts."""
    port = free_port()
    arguments = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    return Running(f"http://127.0.0.1:{port}", pid=_start(arguments, folder, "s3", port))


def _start(arguments: list[str], folder: Path, name: str, port: int) -> int:
    with (folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            arguments, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True, cwd=folder
        )
    wait_until(lambda: answers(port), name)
    return process.pid
