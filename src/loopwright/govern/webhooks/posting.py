"""One attempt at a delivery, and what follows from how it went."""

from __future__ import annotations

import time
from enum import Enum
from typing import TYPE_CHECKING, Any

from loopwright.core import Settings
from loopwright.govern.webhooks.formats import Format, sign
from loopwright.govern.webhooks.sealing import unseal

if TYPE_CHECKING:
    from loopwright.store import Reply

_AGAIN = frozenset({408, 425, 429})
_MAX_PAUSE_S = 300.0
TIMEOUT_S = 10.0


class Verdict(Enum):
    DELIVERED = "delivered"
    AGAIN = "again"
    GIVE_UP = "give up"


def post(settings: Settings, form: Format, webhook: Any, id: str, body: str) -> Reply:
    """Post a message to a webhook (a row of the table), signed with the second of this attempt.

    Raises:
        Invalid: the address is refused.
        Unavailable: the receiver does not answer in time, or the webhook's secret cannot be unsealed.
    """
    from loopwright.store import Outgoing

    at = str(int(time.time()))
    secret = unseal(settings.secret_keys, webhook.secret)
    signature = sign(secret, id, at, body) if secret else ""
    headers = {"Content-Type": "application/json", "User-Agent": "loopwright", **form.headers(id, at, signature)}
    return Outgoing(settings.outgoing_allow, timeout_s=TIMEOUT_S).post(webhook.url, body.encode(), headers)


def judge(status: int) -> Verdict:
    """What an answer means: a receiver that refuses a message will do so again, one that is in trouble may not."""
    if 200 <= status < 300:
        return Verdict.DELIVERED
    return Verdict.AGAIN if status in _AGAIN or status >= 500 else Verdict.GIVE_UP


def pause_after(failures: int, luck: float, asked_s: float = 0.0) -> float:
    """Seconds to wait after so many failures in a row: doubling from 1 s to 300 s, with the upper half left to chance
    so that receivers that fell together are not met together; at least what the receiver asked for, within 300 s.

    Args:
        failures: from 1 on.
        luck: from 0 to 1.
    """
    most = min(_MAX_PAUSE_S, 2.0 ** min(failures - 1, 20))
    return max(most * (0.5 + luck / 2), min(asked_s, _MAX_PAUSE_S))
