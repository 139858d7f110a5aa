"""The hash chain: pure functions of rows. Each event's hash covers its content, its position and the hash before it.

(Haber and Stornetta 1991, "How to time-stamp a digital document", §5: linking.)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from loopwright.core import digest_value

GENESIS = "0" * 64


class Link(msgspec.Struct, frozen=True):
    """An event as the chain sees it: times as microseconds and evidence as the stored text, nothing interpreted."""

    id: str
    kind: str
    at: int
    recorded_at: int
    project: str
    actor: str
    subject: str
    cause: str
    evidence: str
    position: int | None
    hash: str


class Break(msgspec.Struct, frozen=True):
    """Where a chain stops being whole: the link at fault (None if what is missing is the end) and why."""

    link: Link | None
    problem: str


class Head(msgspec.Struct, frozen=True):
    """The end of a chain: the position and hash of its last link."""

    position: int = 0
    hash: str = GENESIS


def link_hash(previous: str, position: int, link: Link) -> str:
    """The hash of `link` at `position` behind the link whose hash is `previous`."""
    content: list[Any] = [previous, position, *msgspec.structs.astuple(link)[:9]]
    return digest_value(content)


def extend(head: Head, links: Iterable[Link]) -> list[Head]:
    """Positions and hashes for new links in this order: one Head per link; the last is the chain's new end."""
    ends: list[Head] = []
    for link in links:
        position = head.position + 1
        head = Head(position, link_hash(head.hash, position, link))
        ends.append(head)
    return ends


def follow(head: Head, links: Iterable[Link]) -> tuple[Head, Break | None]:
    """Walk links in order of position from `head`: the last good end, and the first break if there is one."""
    for link in links:
        expected = head.position + 1
        if link.position != expected:
            missing = f"{expected}" if link.position == expected + 1 else f"{expected} to {(link.position or 0) - 1}"
            return head, Break(link, f"events are missing before event {link.id}: position {missing}")
        if link_hash(head.hash, expected, link) != link.hash:
            return head, Break(
                link,
                f"event {link.id} at position {expected} is not what was sealed: "
                "it or the event before it was edited, replaced or moved",
            )
        head = Head(expected, link.hash)
    return head, None
