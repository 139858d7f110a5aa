"""What access logs and traces are told of a request, whatever its protocol."""

from __future__ import annotations

from typing import Protocol


class Begun(Protocol):
    """A request at its beginning: told apart by the nanosecond of its arrival, on the monotonic clock."""

    started_ns: int


class Watched(Begun, Protocol):
    """A request that is answered.

    Attributes:
        endpoint: which endpoint answers; empty for other requests.
    """

    endpoint: str

    @property
    def path(self) -> bytes:
        """As it was sent; over gRPC service and method."""
        ...

    @property
    def headers(self) -> dict[bytes, bytes]:
        """By name in small letters."""
        ...

    @property
    def peer(self) -> str:
        """The address of whoever asked."""
        ...


class WatchedCall(Watched, Protocol):
    """A message over gRPC that is answered.

    Attributes:
        size: of the message, in bytes.
    """

    size: int
