"""What the control app is told when it is made."""

from __future__ import annotations

import ipaddress
import socket
from functools import lru_cache
from typing import Literal

import msgspec

MIB = 1 << 20


class ServerSettings(msgspec.Struct, frozen=True):
    """How the control app judges and bounds requests.

    hosts: the exact values of the Host header that are answered, with the port.
    loopback: whether the server is bound to a loopback address; only then may local mode be on.
    concealed: texts, such as the workspace's folder, that no reply may carry.
    """

    hosts: tuple[str, ...]
    auth: Literal["local", "required"] = "required"
    loopback: bool = False
    default_project: str = "default"
    max_body_bytes: int = 8 * MIB
    max_proxy_body_bytes: int = 64 * MIB
    max_streams: int = 100
    threads: int = 16
    concealed: tuple[str, ...] = ()

    @property
    def local_mode(self) -> bool:
        """Whether a loopback peer acts as the local user (DESIGN §7 rule 8)."""
        return self.auth == "local" and self.loopback


@lru_cache(maxsize=1024)
def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def hosts_of(host: str, port: int, named: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The Host values to answer for a server bound to `host` and `port`.

    A bind to every address (`0.0.0.0`, `::`) answers to each address and the name of this machine. `named` adds the
    names that people use from outside, each with its port unless it is that of the scheme.
    """
    if is_loopback(host):
        names = ["127.0.0.1", "localhost", "[::1]", _literal(host)]
    elif host in ("0.0.0.0", "::", ""):  # noqa: S104  this compares; it does not bind
        names = ["127.0.0.1", "localhost", "[::1]", *_own_names()]
    else:
        names = [_literal(host)]
    bound = [f"{name}:{port}" for name in names] + (names if port == 80 else [])
    return tuple(dict.fromkeys([*bound, *named]))


def _literal(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _own_names() -> list[str]:
    import psutil

    addresses = [
        address.address.partition("%")[0]
        for found in psutil.net_if_addrs().values()
        for address in found
        if address.family in (socket.AF_INET, socket.AF_INET6)
    ]
    return [_literal(address) for address in addresses] + [socket.gethostname().lower()]
