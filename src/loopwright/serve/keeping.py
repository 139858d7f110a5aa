"""How answers get into the prediction log without ever standing in the way (DESIGN §6)."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import ParamSpec

from loopwright.core import LoopwrightError, Unavailable
from loopwright.serve.batch_record import BatchRecord
from loopwright.serve.prediction_log import PredictionLog

_SLOW_APPEND_S, _LOG_REST_S = 1.0, 10.0
_TELL_EVERY_S = 60.0
P = ParamSpec("P")


class Keeping:
    """Logs answers. Serving goes on without the log; a disk that is slow is left alone for a while."""

    def __init__(self, log: PredictionLog) -> None:
        self._log, self._rests_until_s = log, 0.0
        self._told_s = -_TELL_EVERY_S

    def keep(self, make: Callable[P, Sequence[BatchRecord]], *args: P.args, **named: P.kwargs) -> bool:
        """Make records and log them; whether that was done. An answer that the log did not take carries no id."""
        started_s = time.monotonic()
        try:
            records = make(*args, **named)
            if started_s < self._rests_until_s:
                raise Unavailable("the prediction log rests")
            if records:
                self._log.append(records)
        except Exception as error:  # noqa: BLE001  (whatever it is, those who wait get their answers)
            self._tell(error, started_s)
            return False
        if time.monotonic() - started_s > _SLOW_APPEND_S:
            self._rests_until_s = time.monotonic() + _LOG_REST_S
        return True

    def _tell(self, error: Exception, now_s: float) -> None:
        """Say what is wrong: what nobody raised on purpose in full, anything else once a minute."""
        if not isinstance(error, LoopwrightError):
            traceback.print_exception(error, file=sys.stderr)
        elif now_s - self._told_s >= _TELL_EVERY_S:
            self._told_s = now_s
            sys.stderr.write(f"loopwright-serve: answers are not logged: {error}\n")
