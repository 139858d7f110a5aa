"""The listening socket: bound before anything else starts, so that a port in use is told at once."""

from __future__ import annotations

import errno
import socket

from loopwright.core import Invalid, Unavailable

_BACKLOG = 4096


def listen(host: str, port: int) -> socket.socket:
    """A bound socket that listens; port 0 takes any free one.

    Raises:
        Unavailable: the port is in use, or may not be used.
        Invalid: the host is no address of this machine.
    """
    listener = _bound(host, port, shared=False)
    listener.listen(_BACKLOG)
    return listener


def reserve(host: str, port: int) -> socket.socket:
    """A port held for processes that bind it themselves, with SO_REUSEPORT: this socket is bound and never listens.

    Raises as `listen` does.
    """
    with _bound(host, port, shared=False) as probe:  # SO_REUSEPORT would share the port of another program of ours
        port = probe.getsockname()[1]
    return _bound(host, port, shared=True)


def _bound(host: str, port: int, *, shared: bool) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (socket.gaierror, OverflowError, UnicodeError) as error:
        raise Invalid(f"cannot listen on {host!r} port {port}: {error}", next_step="use --host 127.0.0.1") from None
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise _explained(error, host, port) from None
    return bound


def _explained(error: OSError, host: str, port: int) -> Unavailable | Invalid:
    if error.errno == errno.EADDRINUSE:
        return Unavailable(
            f"port {port} on {host} is in use by another program",
            next_step="use --port 0 for any free port, or end that program",
        )
    if error.errno == errno.EACCES:
        return Unavailable(f"port {port} on {host} may not be used by this user", next_step="use a port above 1023")
    return Invalid(f"cannot listen on {host} port {port}: {error.strerror}", next_step="use --host 127.0.0.1")
