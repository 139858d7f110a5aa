"""The listening socket, bound before anything else starts, so that a port in use is told at once."""

from __future__ import annotations

import errno
import socket

from loopwright.core import Invalid, Unavailable


def listen(host: str, port: int) -> socket.socket:
    """A bound socket that listens; port 0 takes any free one.

    Raises:
        Unavailable: the port is in use, or may not be used.
        Invalid: the host is no address of this machine.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (socket.gaierror, OverflowError, UnicodeError) as error:
        raise Invalid(f"cannot listen on {host!r} port {port}: {error}", next_step="use --host 127.0.0.1") from None
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise _explained(error, host, port) from None
    return listener


def _explained(error: OSError, host: str, port: int) -> Unavailable | Invalid:
    if error.errno == errno.EADDRINUSE:
        return Unavailable(
            f"port {port} on {host} is in use by another program",
            next_step="use --port 0 for any free port, or end that program",
        )
    if error.errno == errno.EACCES:
        return Unavailable(f"port {port} on {host} may not be used by this user", next_step="use a port above 1023")
    return Invalid(f"cannot listen on {host} port {port}: {error.strerror}", next_step="use --host 127.0.0.1")
