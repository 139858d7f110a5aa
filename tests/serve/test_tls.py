"""Both ports of `loopwright serve` behind TLS, asked by httpx, tritonclient, grpcio and our own client."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.serve.conftest import adding_bundle

from loopwright.core import Invalid, Unavailable
from loopwright.serve import InferenceClient
from loopwright.serve.tls import GRPC, context_of

pytestmark = [pytest.mark.slow, pytest.mark.fault]
LOOPBACK = ipaddress.ip_address("127.0.0.1")


def certified(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate that vouches for itself, for this machine's own address, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(LOOPBACK), x509.DNSName("localhost")]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert, secret = folder / f"{name}.pem", folder / f"{name}.key"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, plain)
    )
    return cert, secret


@pytest.fixture(scope="module", params=[1, 2], ids=["one worker", "two workers"])
def door(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict, Path]]:
    """What a command that serves a model says of itself, and its certificate."""
    folder = tmp_path_factory.mktemp("tls")
    bundle = adding_bundle(1.0, folder / "plus")
    cert, key = certified(folder, "door")
    command = [sys.executable, "-m", "loopwright", "serve", "--bundle", str(bundle.folder), "--port", "0", "--json"]
    command += ["--grpc-port", "0", "--workers", str(request.param), "--tls-cert", str(cert), "--tls-key", str(key)]
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, (folder / "said").read_text()
    yield json.loads(line), cert
    process.terminate()
    assert process.wait(30) == 0
    assert "Traceback" not in (folder / "said").read_text()


Door = tuple[dict[str, Any], Path]
INFER = "/v2/models/plus/infer"


def tensor(values: list[float]) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "datatype": "FP64", "shape": [len(values)], "data": values}]}


def test_clients_that_trust_the_certificate_are_answered_over_http(door: Door) -> None:
    told, cert = door
    assert told["url"].startswith("https://127.0.0.1:")
    with httpx.Client(base_url=told["url"], verify=ssl.create_default_context(cafile=cert)) as web:
        for count in (1, 3, 60_000):  # the last one in many records
            answer = web.post(INFER, json=tensor([float(number) for number in range(count)]))
            assert answer.json()["outputs"][0]["data"] == [number + 1.0 for number in range(count)]
        assert "loopwright_connections" in web.get("/metrics").text
    with InferenceClient(told["url"], authority=cert) as client:
        assert client.infer_many("plus", {"x": [1.0] * 2_000}).outputs["value"] == [2.0] * 2_000
    with InferenceClient(told["url"], timeout_s=2) as stranger, pytest.raises(Unavailable):
        stranger.infer("plus", {"x": [1.0]})


def test_grpc_is_spoken_behind_tls_to_grpcio_and_tritonclient(door: Door) -> None:
    told, cert = door
    asked = tritonclient.grpc.InferInput("x", [2], "FP64")
    asked.set_data_from_numpy(np.array([1.0, 2.0]))
    with tritonclient.grpc.InferenceServerClient(told["grpc"], ssl=True, root_certificates=str(cert)) as client:
        assert client.is_server_ready()
        assert client.infer("plus", [asked]).as_numpy("value").tolist() == [2.0, 3.0]
    with grpc.secure_channel(told["grpc"], grpc.ssl_channel_credentials()) as channel:  # who trusts others
        live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
        with pytest.raises(grpc.RpcError) as refused:
            live(b"", timeout=5)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def test_each_port_offers_its_own_protocol_and_none_without_tls(door: Door) -> None:
    told, cert = door
    for place, protocol in ((told["url"].rpartition("/")[2], "http/1.1"), (told["grpc"], "h2")):
        host, _, port = place.rpartition(":")
        context = ssl.create_default_context(cafile=cert)
        context.set_alpn_protocols(["h2", "http/1.1"])
        with (
            socket.create_connection((host, int(port))) as plain,
            context.wrap_socket(plain, server_hostname=host) as spoken,
        ):
            assert (spoken.selected_alpn_protocol(), spoken.version()) == (protocol, "TLSv1.3")
    with pytest.raises(httpx.HTTPError):
        httpx.get(told["url"].replace("https", "http") + "/v2/health/live")
    silent = [socket.create_connection((host, int(port))) for _ in range(20)]  # who never begins holds up nobody
    with httpx.Client(base_url=told["url"], verify=ssl.create_default_context(cafile=cert)) as web:
        assert web.get("/v2/health/live", timeout=5).status_code == 200
    for one in silent:
        one.close()


def test_a_renewed_certificate_is_taken_up_on_sighup(door: Door) -> None:
    told, cert = door
    before = ssl.create_default_context(cafile=cert)
    renewed, key = certified(cert.parent, "renewed")
    key.replace(cert.with_suffix(".key"))
    renewed.replace(cert)
    os.kill(told["pid"], signal.SIGHUP)
    after, end = ssl.create_default_context(cafile=cert), time.monotonic() + 30
    while not answers(told["url"], after):
        assert time.monotonic() < end
        time.sleep(0.05)
    while answers(told["url"], before):  # the last worker has been replaced, too
        assert time.monotonic() < end
        time.sleep(0.05)


def answers(url: str, trust: ssl.SSLContext) -> bool:
    try:
        return httpx.get(f"{url}/v2/health/live", verify=trust).status_code == 200
    except httpx.HTTPError:
        return False


def test_files_that_do_not_fit_are_refused_before_anything_starts(tmp_path: Path) -> None:
    cert, key = certified(tmp_path, "one")
    _, other = certified(tmp_path, "two")
    locked = tmp_path / "locked.key"
    secret = serialization.load_pem_private_key(key.read_bytes(), None)
    how = serialization.BestAvailableEncryption(b"secret")
    locked.write_bytes(secret.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how))
    assert context_of(None, None, GRPC) is None
    for one, two, said in (
        (cert, None, "both --tls-cert and --tls-key"),
        (None, key, "both --tls-cert and --tls-key"),
        (cert, other, "no certificate with its key"),
        (key, cert, "no certificate with its key"),
        (cert, locked, "a key with a password cannot be used"),
        (cert, tmp_path / "none", "cannot be read"),
    ):
        with pytest.raises(Invalid, match=said):
            context_of(one, two, GRPC)
    command = [sys.executable, "-m", "loopwright", "serve", "--bundle", ".", "--tls-cert", str(cert)]
    folder = adding_bundle(1.0, tmp_path / "plus").folder
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "both --tls-cert and --tls-key" in done.stderr) == (2, True), done.stderr
