"""The one client for calls out of the house: webhooks, and whatever else goes to an address that a user named.

Such an address may lead back inside, so the client refuses more than it takes: https only, public addresses only, no
redirects, no proxies, bounds on time and size. A name is looked up once, and the connection goes to what was found;
that a second look-up gives another address ("DNS rebinding") changes nothing, as there is none.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import httpcore
import httpx

from loopwright.core import Invalid, Unavailable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Sequence[str]]
Find = Callable[[float], Sequence[str]]

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_MAX_URL = 2_000


class Reply(NamedTuple):
    """What came back: the status, the headers by lower-case name, and the body up to the bound."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def good(self) -> bool:
        """Whether the receiver took it."""
        return 200 <= self.status < 300


def look_up(host: str, port: int) -> Sequence[str]:
    """The addresses of a host, as the machine's resolver gives them.

    Raises:
        OSError: it knows none.
    """
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def is_public(address: Address) -> bool:
    """Whether an address is one of the open internet, also where an IPv4 address is wrapped in an IPv6 one."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


class Outgoing:
    """Posts to addresses that users named. Thread-safe; keeps no connection."""

    def __init__(
        self,
        allowed: Sequence[str] = (),
        *,
        timeout_s: float = 10.0,
        max_reply_bytes: int = 64 << 10,
        resolve: Resolve = look_up,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Args:
        allowed: hosts (`hooks.internal`, or `127.0.0.1:9000` for one port only) that may be private and without TLS.
        timeout_s: the most seconds that one call takes, look-up and all.
        max_reply_bytes: what is read of a reply's body; the rest is left.
        resolve: looks a name up.
        tls: whom to trust; by default the usual authorities.
        """
        self._allowed = frozenset(entry.strip().lower() for entry in allowed)
        self._timeout_s, self._max_reply_bytes = timeout_s, max_reply_bytes
        self._resolve, self._tls = resolve, tls

    def check(self, url: str) -> None:
        """Refuse an address that `post` would refuse whatever its name leads to.

        Raises:
            Invalid: it is no URL, not https, or a private address that the settings do not allow by name.
        """
        parsed = _parse(url)
        if self._is_allowed(parsed):
            return
        if parsed.scheme != "https":
            raise Invalid(
                f"the address {_shown(parsed)} is not https",
                next_step=f"use https, or name {parsed.host!r} in the setting outgoing_allow",
            )
        literal = _literal(parsed.host)
        if literal is not None:
            _refuse_private(parsed.host, [literal])

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Post a body and read the answer. A redirect is an answer like any other: it is not followed.

        Raises:
            Invalid: the address is refused; trying again does not help.
            Unavailable: the receiver cannot be reached, speaks no HTTP, or takes too long.
        """
        self.check(url)
        parsed = _parse(url)
        backend = _Pinned(self._finder(parsed), _Deadline(self._timeout_s))
        tls = self._tls or httpx.create_ssl_context(trust_env=False)
        given = {"Host": parsed.netloc.decode("ascii"), "Content-Length": str(len(body)), **headers}
        try:
            with (
                httpcore.ConnectionPool(tls, network_backend=backend, retries=0) as pool,
                pool.stream(
                    "POST", str(parsed), headers=list(given.items()), content=body, extensions=self._bounds()
                ) as answer,
            ):
                return self._read(answer)
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError) as error:
            raise Unavailable(
                f"{_shown(parsed)} did not answer: {str(error) or type(error).__name__}",
                next_step="see whether the receiver runs",
            ) from None

    def _bounds(self) -> dict[str, dict[str, float]]:
        return {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), self._timeout_s)}

    def _read(self, answer: httpcore.Response) -> Reply:
        body = bytearray()
        for part in answer.iter_stream():
            body += part[: self._max_reply_bytes - len(body)]
            if len(body) >= self._max_reply_bytes:
                break
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers}
        return Reply(answer.status, headers, bytes(body))

    def _is_allowed(self, url: httpx.URL) -> bool:
        return url.host in self._allowed or f"{url.host}:{_port(url)}" in self._allowed

    def _finder(self, url: httpx.URL) -> Find:
        """What gives the addresses to connect to, within some seconds."""
        host, port, allowed = url.host, _port(url), self._is_allowed(url)

        def find(within_s: float) -> Sequence[str]:
            if _literal(host) is not None:
                return [host]
            found = _within(lambda: self._resolve(host, port), within_s, host)
            if not allowed:
                _refuse_private(host, [ipaddress.ip_address(item.partition("%")[0]) for item in found])
            return found

        return find


def _parse(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url) if len(url) <= _MAX_URL and url.isprintable() else None
    except (httpx.InvalidURL, ValueError):
        parsed = None
    if parsed is None or parsed.scheme not in ("http", "https") or not parsed.host:
        raise Invalid(f"{url[:80]!r} is not an address to post to", next_step="use https://host/path")
    if parsed.userinfo or parsed.fragment:
        raise Invalid(
            "an address to post to holds a password or a fragment", next_step="leave them out; sign with a secret"
        )
    return parsed


def _port(url: httpx.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def _shown(url: httpx.URL) -> str:
    """The address without its path and query, which may hold secrets."""
    return f"{url.scheme}://{url.netloc.decode('ascii')}"


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _refuse_private(host: str, addresses: Sequence[Address]) -> None:
    """One private address among several is enough: the name is then not one of the open internet."""
    if not all(is_public(address) for address in addresses):
        raise Invalid(
            f"{host!r} leads to an address inside a network, not to the open internet",
            next_step=f"name {host!r} in the setting outgoing_allow if that is meant",
        )


def _within(look: Callable[[], Sequence[str]], within_s: float, host: str) -> Sequence[str]:
    """What a look-up finds; the machine's resolver knows no bound of its own."""
    found: list[Sequence[str]] = []
    faults: list[OSError] = []

    def run() -> None:
        try:
            found.append(look())
        except OSError as error:
            faults.append(error)

    thread = threading.Thread(target=run, name="loopwright-look-up", daemon=True)
    thread.start()
    thread.join(max(within_s, 0.0))
    if not found or not found[0]:
        why = (faults[0].strerror or "unknown") if faults else "the resolver took too long"
        raise OSError(f"the name {host!r} cannot be looked up: {why}")
    return found[0]


class _Deadline:
    """How much time is left."""

    def __init__(self, within_s: float) -> None:
        self._end = time.monotonic() + within_s

    def left(self) -> float:
        """Seconds, more than none.

        Raises:
            httpcore.ReadTimeout: there is none left.
        """
        seconds = self._end - time.monotonic()
        if seconds <= 0:
            raise httpcore.ReadTimeout("the call took too long")
        return seconds


class _Bounded(httpcore.NetworkStream):
    """A connection on which nothing outlives the deadline, however it drips."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.left())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Bounded(self._stream.start_tls(ssl_context, server_hostname, self._deadline.left()), self._deadline)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)


class _Pinned(httpcore.NetworkBackend):
    """Opens a connection to the addresses that one look-up gave. httpx itself takes no such backend; `httpcore`, on
    which it stands, does."""

    def __init__(self, find: Find, deadline: _Deadline) -> None:
        self._find, self._deadline = find, deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: object = None,
    ) -> httpcore.NetworkStream:
        fault: Exception | None = None
        for address in self._find(self._deadline.left()):
            try:
                stream = httpcore.SyncBackend().connect_tcp(address, port, self._deadline.left())
                return _Bounded(stream, self._deadline)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                fault = error
        raise fault or OSError(f"{host} has no address")
