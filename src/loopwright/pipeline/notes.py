"""What steps tell while they run, written to the run. Trouble with that never stops a step."""

from __future__ import annotations

import logging
from collections.abc import Callable

from loopwright.core import Clock, LoopwrightError
from loopwright.pipeline.messages import Advice, HandedOut, Kept, Metrics, Note, Report, Tags
from loopwright.track import Artifact, MetricPoint, RunService

OnReport = Callable[[float, int], bool]
_logger = logging.getLogger("loopwright.pipeline")
INTERMEDIATE = "intermediate"


class NoteTaker:
    """Writes the notes of one run's steps. Thread-safe."""

    def __init__(self, runs: RunService, clock: Clock, run_id: str, on_report: OnReport | None) -> None:
        """Args:
        on_report: is told each reported value with its step; true means that the run is not worth going on with.
        """
        self._runs, self._clock, self._run_id, self._on_report = runs, clock, run_id, on_report

    def __call__(self, note: Note) -> Advice | None:
        try:
            self._write(note)
        except LoopwrightError as error:
            _logger.warning("run %s: a note was not kept: %s", self._run_id, error)
        if isinstance(note, Report) and self._on_report is not None:
            return Advice(self._on_report(note.value, note.step))
        return None

    def _write(self, note: Note) -> None:
        match note:
            case Metrics(points):
                self._runs.log_points(
                    self._run_id, [MetricPoint(key, _value(value), step) for key, value, step in points]
                )
            case Tags(tags):
                self._runs.set_tags(self._run_id, tags)
            case Kept(artifacts):
                now = self._clock.now()
                kept = [Artifact(path, digest, size_bytes, now) for path, digest, size_bytes in artifacts]
                self._runs.keep_artifacts(self._run_id, kept)
            case HandedOut(ref, digest):
                self._runs.log_output(self._run_id, ref, digest)
            case Report(value, step):
                self._runs.log_metrics(self._run_id, {INTERMEDIATE: value}, step)


def _value(value: float | str) -> float:
    return float(value)
