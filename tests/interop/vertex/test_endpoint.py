"""google-cloud-aiplatform's Endpoint.predict, unmodified.

It speaks to Google over TLS and asks about the endpoint first. A loopback answers that question in Google's stead, and
hands everything else to the inference process as it came.
"""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform

from loopwright.serve import InferenceProcess

PARENT = "projects/p/locations/us-central1/endpoints"


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for the loopback, which signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    paths = folder / "loopback.pem", folder / "loopback.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(pem)
    return paths


@pytest.fixture(scope="module")
def loopback(process: InferenceProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of what stands in for Google."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.partition("?")[0].removeprefix("/v1/")
            self.answer(200, f'{{"name": "{name}", "displayName": "ours"}}'.encode())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found = httpx.post(process.url + self.path.partition("?")[0], content=body)
            self.answer(found.status_code, found.content)

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    public, key = certificate(tmp_path_factory.mktemp("tls"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REQUESTS_CA_BUNDLE", str(public))
        patch.setenv("NO_PROXY", "*")
        yield f"localhost:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def endpoint_of(loopback: str) -> Any:
    """Makes their Endpoint of a name."""
    aiplatform.init(
        project="p",
        location="us-central1",
        api_endpoint=loopback,
        api_transport="rest",
        credentials=AnonymousCredentials(),
    )
    return lambda name: aiplatform.Endpoint(f"{PARENT}/{name}")


def test_predict_answers_as_the_original_model_does(endpoint_of: Any, rows: pl.DataFrame, wanted: Any) -> None:
    answer = endpoint_of("trips").predict(instances=rows.to_dicts(), parameters={"key": "someone"}, timeout=30)
    np.testing.assert_allclose([row["probability"] for row in answer.predictions], wanted, atol=1e-5)
    assert (answer.model_resource_name, answer.model_version_id) == ("model:trips@7", "7")
    assert answer.deployed_model_id == "champion"


def test_a_refusal_reaches_the_caller_as_googles_own(endpoint_of: Any) -> None:
    with pytest.raises(Exception, match="row 0: takes a number, not 'a'") as caught:
        endpoint_of("plus").predict(instances=[{"x": "a"}], timeout=30)
    assert type(caught.value).__module__ == "google.api_core.exceptions"
