"""How long a worker has been silent, as its supervisor has seen it: who would kill must have looked all that time."""

from __future__ import annotations


class Silence:
    """The silence of one place. Each look tells it the beat that it saw.

    Only time in which somebody looked counts: after a pause of the whole machine, or of all processes of a service, no
    worker has beaten for long, and all of them are well. One odd look ends nothing, since silence is many in a row.
    """

    def __init__(self, most_step_s: float) -> None:
        """Args:
        most_step_s: what the time between two looks counts at most.
        """
        self._most_step_s = most_step_s
        self._seen = (0, 0)
        self._looked_s = 0.0
        self._lasted_s = 0.0

    def look(self, pid: int, beat_ns: int, now_s: float) -> float:
        """How long the same process has not beaten, in seconds.

        Args:
            pid: the process that has the place.
            beat_ns: its last beat.
            now_s: the supervisor's clock.
        """
        step_s, self._looked_s = min(now_s - self._looked_s, self._most_step_s), now_s
        if (pid, beat_ns) != self._seen:
            self._seen, self._lasted_s = (pid, beat_ns), 0.0
        else:
            self._lasted_s += step_s
        return self._lasted_s
