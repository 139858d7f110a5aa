"""Calls to addresses that users name: nothing leads back inside, nothing lasts or grows without a bound."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from loopwright.core import Invalid, Unavailable
from loopwright.store import Outgoing
from loopwright.store.outgoing import is_public

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Talk = Callable[[socket.socket, bytes], None]


@contextmanager
def receiver(talk: Talk, listens: bool = True) -> Iterator[tuple[int, list[bytes]]]:
    """A loopback server: its port, and what it was sent."""
    heard: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer:
                heard.append(request(peer) if listens else b"")
                with suppress(OSError):
                    talk(peer, heard[-1])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1], heard
        listener.shutdown(socket.SHUT_RDWR)


def request(peer: socket.socket) -> bytes:
    """A whole request."""
    text = b""
    while b"\r\n\r\n" not in text:
        text += peer.recv(65536)
    head, _, body = text.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += peer.recv(65536)
    return head + b"\r\n\r\n" + body


def says(reply: bytes) -> Talk:
    return lambda peer, _heard: peer.sendall(reply)


def test_a_body_arrives_with_its_headers_and_the_answer_comes_back() -> None:
    with receiver(says(OK)) as (port, heard):
        reply = Outgoing([f"127.0.0.1:{port}"]).post(f"http://127.0.0.1:{port}/hook?a=1", b"{}", {"X-Sign": "v1"})
    assert (reply.status, reply.body, reply.good) == (200, b"ok", True)
    assert heard[0].startswith(b"POST /hook?a=1 HTTP/1.1\r\n")
    assert b"X-Sign: v1\r\n" in heard[0]
    assert heard[0].endswith(b"\r\n\r\n{}")


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/hook",
        "ftp://example.org/hook",
        "https://127.0.0.1/hook",
        "https://10.1.2.3/",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://0.0.0.0/",
        "https://100.64.0.1/",
        "https://ann:secret@example.org/",
        "https://example.org/#part",
        "https:///path",
        "https://example.org/\r\nX: y",
        "not an address",
    ],
)
def test_an_address_that_may_lead_inside_is_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(Invalid):
        Outgoing().check(url)
    with pytest.raises(Invalid):
        Outgoing(resolve=lambda _host, _port: pytest.fail("looked up")).post(url, b"", {})


def test_the_open_internet_is_told_from_what_is_inside() -> None:
    assert is_public(ipaddress.ip_address("93.184.216.34"))
    assert is_public(ipaddress.ip_address("2606:2800:220:1::1"))
    inside = ("192.168.0.1", "fe80::1", "fc00::1", "2002:7f00:1::", "::ffff:127.0.0.1", "224.0.0.1", "240.0.0.1", "::")
    assert not any(is_public(ipaddress.ip_address(address)) for address in inside)


@pytest.mark.parametrize("found", [["127.0.0.1"], ["93.184.216.34", "10.0.0.1"], ["fe80::1%eth0"]])
def test_a_name_that_leads_inside_is_refused(found: list[str]) -> None:
    with pytest.raises(Invalid, match="inside a network"):
        Outgoing(resolve=lambda _host, _port: found).post("https://hooks.example.org/", b"", {})


def test_a_name_is_looked_up_once_and_what_it_leads_to_later_counts_for_nothing() -> None:
    """DNS rebinding: the second answer would be another machine."""
    answers = iter([["127.0.0.1"], ["127.0.0.2"]])
    with receiver(says(OK)) as (port, heard):
        client = Outgoing([f"hooks.test:{port}"], resolve=lambda _host, _port: next(answers))
        assert client.post(f"http://hooks.test:{port}/", b"", {}).good
    assert next(answers) == ["127.0.0.2"]
    assert f"Host: hooks.test:{port}".encode() in heard[0]


def test_allowing_one_port_allows_no_other() -> None:
    with pytest.raises(Invalid, match="outgoing_allow"):
        Outgoing(["127.0.0.1:9000"]).check("http://127.0.0.1:9001/")


def test_a_redirect_is_not_followed() -> None:
    with receiver(says(OK)) as (inner, reached):
        away = f"HTTP/1.1 307 Away\r\nLocation: http://127.0.0.1:{inner}/\r\nContent-Length: 0\r\n\r\n".encode()
        with receiver(says(away)) as (port, _):
            reply = Outgoing(["127.0.0.1"]).post(f"http://127.0.0.1:{port}/", b"", {})
    assert (reply.status, reply.good, reached) == (307, False, [])


def test_a_reply_without_end_is_cut_at_the_bound() -> None:
    def flood(peer: socket.socket, _heard: bytes) -> None:
        peer.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            peer.sendall(b"x" * 65536)

    with receiver(flood) as (port, _):
        reply = Outgoing(["127.0.0.1"], max_reply_bytes=1000).post(f"http://127.0.0.1:{port}/", b"", {})
    assert reply.body == b"x" * 1000


def test_a_receiver_that_drips_is_left_in_time() -> None:
    """Each byte comes quickly, so a bound on single reads would never be met."""

    def drip(peer: socket.socket, _heard: bytes) -> None:
        for _ in range(200):
            peer.sendall(b"H")
            time.sleep(0.05)

    begun = time.monotonic()
    with receiver(drip) as (port, _), pytest.raises(Unavailable):
        Outgoing(["127.0.0.1"], timeout_s=0.5).post(f"http://127.0.0.1:{port}/", b"", {})
    assert time.monotonic() - begun < 8  # of the 10 s that the receiver would take


def test_a_look_up_that_hangs_is_left_in_time() -> None:
    ended = threading.Event()
    client = Outgoing(timeout_s=0.2, resolve=lambda _host, _port: [str(ended.wait(10))])
    with pytest.raises(Unavailable, match="too long"):
        client.post("https://slow.example.org/", b"", {})
    ended.set()


@pytest.mark.parametrize("reply", [b"", b"nonsense\r\n\r\n"])
def test_what_speaks_no_http_is_unavailable(reply: bytes) -> None:
    with receiver(says(reply)) as (port, _), pytest.raises(Unavailable, match="did not answer"):
        Outgoing(["127.0.0.1"]).post(f"http://127.0.0.1:{port}/", b"", {})


@contextmanager
def vouched(folder: Path, name: str) -> Iterator[tuple[int, list[bytes], ssl.SSLContext]]:
    """A loopback server with TLS and a certificate for `name`: port, what it heard, and who trusts it."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    made = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1", "-subj", f"/CN={name}"]
    files = ["-keyout", str(key), "-out", str(certificate), "-addext", f"subjectAltName=DNS:{name}"]
    subprocess.run(["openssl", "req", "-x509", *made, *files], check=True, capture_output=True)
    inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    inside.load_cert_chain(certificate, key)
    said: list[bytes] = []

    def speak(peer: socket.socket) -> None:
        with inside.wrap_socket(peer, server_side=True) as safe:
            said.append(request(safe))  # all of it: to close with bytes unread resets the connection
            safe.sendall(OK)

    with receiver(lambda peer, _heard: speak(peer), listens=False) as (port, _):
        yield port, said, ssl.create_default_context(cafile=str(certificate))


def test_a_certificate_must_be_that_of_the_name_though_the_connection_goes_to_an_address(tmp_path: Path) -> None:
    with vouched(tmp_path, "hooks.test") as (port, said, trust):
        client = Outgoing(["hooks.test", "other.test"], resolve=lambda _host, _port: ["127.0.0.1"], tls=trust)
        assert client.post(f"https://hooks.test:{port}/", b"body", {}).body == b"ok"
        with pytest.raises(Unavailable, match="certificate"):
            client.post(f"https://other.test:{port}/", b"body", {})
    assert len(said) == 1


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    with vouched(tmp_path, "hooks.test") as (port, said, _):
        client = Outgoing(["hooks.test"], resolve=lambda _host, _port: ["127.0.0.1"])
        with pytest.raises(Unavailable, match="certificate"):
            client.post(f"https://hooks.test:{port}/", b"body", {})
    assert said == []
