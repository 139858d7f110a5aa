"""Heads of requests: on a kept-alive connection they repeat byte for byte, and so are parsed once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httptools

_MOST_HEADS = 1024
_MOST_BYTES = 4096  # of a head that is remembered


class Head:
    """The head of a request. Many requests may share it: nothing in it is changed, but for what is the app's.

    Attributes:
        headers: by name in small letters; of one that is there more than once, the last value.
        length: of the body, in bytes.
        memo: the app's: what it found out about requests with this head.
        turn_away: the app's: gives the response to a request that it has no time for, and None while it has; asked
            before the request is handed on.
        lane: the app's: takes requests with this head before they get here, if it can; see `express`.
        forms: the app's: of a head that says how long the JSON before binary tensors is, this length, and what the lane
            takes for each JSON.
    """

    __slots__ = (
        "__weakref__",
        "forms",
        "headers",
        "keep_alive",
        "lane",
        "length",
        "memo",
        "method",
        "path",
        "turn_away",
    )

    def __init__(self, method: bytes, path: bytes, headers: dict[bytes, bytes], keep_alive: bool, length: int) -> None:
        self.method, self.path, self.headers = method, path, headers
        self.keep_alive, self.length = keep_alive, length
        self.memo: Any = None
        self.turn_away: Callable[[], bytes | None] | None = None
        self.lane: Any = None
        self.forms: tuple[int, dict[bytes, Any]] | None = None


class Heads:
    """The heads of late, by their bytes. A head that is unusual in any way is left to the parser of its connection."""

    def __init__(self, head_bytes: int, body_bytes: int) -> None:
        """Args:
        head_bytes, body_bytes: how long a head and a body may be; longer ones are left to the parser too.
        """
        self._head_bytes, self._body_bytes = head_bytes, body_bytes
        self._remembers = True
        self.by_bytes: dict[bytes, Head] = {}
        self.known = self.by_bytes.get

    def close_lanes(self) -> None:
        """Have no lane take a request any more: from now on each goes the usual way, and no head is remembered."""
        for head in self.by_bytes.values():
            if head.lane is not None:
                head.lane.is_open, head.lane = False, None
        self.by_bytes.clear()
        self._remembers = False

    def learn(self, data: bytes) -> Head | None:
        """The head in bytes that end with its empty line; None if the connection's parser should have them."""
        head = self._parsed(data)
        if head is not None and len(data) <= _MOST_BYTES and self._remembers:
            if len(self.by_bytes) >= _MOST_HEADS:
                self.by_bytes.clear()
            self.by_bytes[data] = head
        return head

    def _parsed(self, data: bytes) -> Head | None:
        if len(data) > self._head_bytes or data.count(b"\n") != data.count(b"\r\n"):
            return None
        reader = _Reader()
        parser = httptools.HttpRequestParser(reader)
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            return None
        headers = reader.headers
        length = headers.get(b"content-length", b"0")
        if not reader.is_whole or reader.messages > 1 or headers.keys() & {b"transfer-encoding", b"expect", b"upgrade"}:
            return None
        if len(length) > 18 or not length.isdigit() or int(length) > self._body_bytes or reader.lengths > 1:
            return None
        return Head(parser.get_method(), reader.url, headers, parser.should_keep_alive(), int(length))


class _Reader:
    """Takes down what the parser calls out. The names are httptools'."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: dict[bytes, bytes] = {}
        self.messages = self.lengths = 0
        self.is_whole = False

    def on_message_begin(self) -> None:
        self.messages += 1

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        lowered = name.lower()
        self.headers[lowered] = value
        self.lengths += lowered == b"content-length"

    def on_headers_complete(self) -> None:
        self.is_whole = True
