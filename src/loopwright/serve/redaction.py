"""What an endpoint's policy keeps out of the prediction log: inputs that are dropped, or told as a keyed hash."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any

from loopwright.core import Invalid
from loopwright.serve.block import Block
from loopwright.serve.intake import Row, Rows
from loopwright.serve.model import KeyLogging, LogPolicy

_DIGEST_BYTES = 16


class Redaction:
    """A policy, worked out for the inputs of one variant.

    Attributes:
        dropped: the places of the inputs that a record lacks, in order.
        touches_inputs: whether an input is dropped or hashed.
    """

    def __init__(self, policy: LogPolicy, names: Sequence[str]) -> None:
        self.dropped = [at for at, name in enumerate(names) if name in policy.drop]
        self._hashed = {at for at, name in enumerate(names) if name in policy.hash}
        self._kept = [at for at in range(len(names)) if at not in self.dropped]
        self._keys = policy.keys
        self.touches_inputs = bool(self.dropped or self._hashed)

    def inputs(self, rows: Rows, secret: bytes) -> list[Row]:
        """The rows as they are logged."""
        listed = rows.rows() if isinstance(rows, Block) else rows
        return [[_digest(row[at], secret) if at in self._hashed else row[at] for at in self._kept] for row in listed]

    def keys(self, keys: list[str], secret: bytes) -> list[str]:
        """The keys of rows as they are logged; empty where there are none."""
        if self._keys is KeyLogging.KEEP:
            return keys
        return [] if self._keys is KeyLogging.DROP else [_digest(key, secret) if key else "" for key in keys]


def check_policy(endpoint: str, policy: LogPolicy, names: Iterable[str]) -> None:
    """Refuse a policy for inputs that are not there: a misspelt name would be logged in the clear.

    Raises:
        Invalid: no variant has an input of that name.
    """
    unknown = sorted({*policy.drop, *policy.hash} - set(names))
    if unknown:
        raise Invalid(
            f"the log policy of endpoint {endpoint!r} names {', '.join(map(repr, unknown))}, which no variant takes",
            next_step=f"its inputs are {', '.join(names)}",
        )


def _digest(value: Any, secret: bytes) -> Any:
    """The same value gives the same text, which tells nothing of it to who lacks the secret."""
    if value is None:
        return None
    return blake2b(str(value).encode("utf-8", "surrogatepass"), key=secret, digest_size=_DIGEST_BYTES).hexdigest()
