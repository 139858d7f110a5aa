"""Sticky assignment: which variant a key gets. Pure.

Weighted rendezvous hashing (Schindelhauer and Schomaker, "Weighted Distributed Hash Tables", 2005, §3; the logarithmic
method): each variant draws a number from the hash of salt, variant and key, and the smallest -ln(u) / weight wins. A
variant gets its share of the keys, and when one variant's share grows at the others' cost, keys move to it only, and
never back and forth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from hashlib import blake2b

from loopwright.core import Invalid
from loopwright.serve.model import Variant

_SCALE = 2.0**-64


def assign(salt: str, key: str, variants: Sequence[Variant]) -> Variant:
    """The variant that answers a key.

    Args:
        salt: the endpoint's; another salt shuffles all keys.
        key: a customer, a flight, a session: what should stay with one variant.
        variants: at least one with a weight; shadows take no part.

    Raises:
        Invalid: no variant has a weight.
    """
    best, best_score = None, math.inf
    for variant in variants:
        if variant.weight > 0 and not variant.shadow:
            score = -math.log(draw(salt, variant.name, key)) / variant.weight
            if score < best_score or best is None:
                best, best_score = variant, score
    if best is None:
        raise Invalid("no variant has a weight above 0")
    return best


def draw(salt: str, name: str, key: str) -> float:
    """A number in (0, 1) that depends on all three: uniform over keys, independent between names and salts."""
    text = f"{salt}\0{name}\0{key}".encode("utf-8", "surrogatepass")
    number = int.from_bytes(blake2b(text, digest_size=8).digest(), "big")
    return min((number + 0.5) * _SCALE, 1.0 - 2.0**-53)
