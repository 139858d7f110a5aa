"""On how many examples a property is tried."""

from __future__ import annotations

import os

FEWER = "LOOPWRIGHT_TEST_FEWER_EXAMPLES"


def examples(number: int) -> int:
    """That number in a run of all tests; a third of it where the slow ones are left out."""
    return max(number // 3, 1) if os.environ.get(FEWER) else number
