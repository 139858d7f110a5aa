"""Responses of HTTP/1.1 as the bytes that are sent."""

from __future__ import annotations

_REASONS = {
    200: b"OK",
    400: b"Bad Request",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    409: b"Conflict",
    411: b"Length Required",
    413: b"Content Too Large",
    415: b"Unsupported Media Type",
    421: b"Misdirected Request",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    503: b"Service Unavailable",
}
JSON = b"application/json"


def written(
    status: int, body: bytes, content_type: bytes = JSON, extra: bytes = b"", is_head_alone: bool = False
) -> bytes:
    """A response as it is sent.

    Args:
        extra: further header lines, each ended by CRLF.
        is_head_alone: whether the body is only told of.
    """
    return b"HTTP/1.1 %d %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n%b\r\n%b" % (
        status,
        _REASONS.get(status, b""),
        content_type,
        len(body),
        extra,
        b"" if is_head_alone else body,
    )
