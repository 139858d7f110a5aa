"""A run in the hands of the code that it records."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.track.model import Artifact, MetricPoint, Run, RunInput, RunStatus, Value

if TYPE_CHECKING:
    from loopwright.track.service import RunService

TRACEBACK_PATH = "error/traceback.txt"


class ActiveRun:
    """Logs to one run. Thread-safe; what a method took is durable when it returns."""

    def __init__(self, service: RunService, run: Run) -> None:
        self.service, self.id, self.ref, self.experiment = service, run.id, run.ref, run.experiment

    def log_metric(self, key: str, value: Value, step: int = 0, at: datetime | None = None) -> None:
        """Store one value of a metric."""
        self.service.log_metrics(self.id, {key: value}, step, at)

    def log_metrics(self, metrics: Mapping[str, Value], step: int = 0, at: datetime | None = None) -> None:
        """Store one value of each of these metrics."""
        self.service.log_metrics(self.id, dict(metrics), step, at)

    def log_points(self, points: Sequence[MetricPoint]) -> None:
        """Store many points at once."""
        self.service.log_points(self.id, list(points))

    def log_param(self, key: str, value: Any) -> None:
        """Add a param; its value is stored as text."""
        self.log_params({key: value})

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Add params; their values are stored as text."""
        self.service.log_params(self.id, {key: str(value) for key, value in params.items()})

    def set_tag(self, key: str, value: Any) -> None:
        """Set a tag; its value is stored as text."""
        self.service.set_tags(self.id, {key: str(value)})

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags; their values are stored as text."""
        self.service.set_tags(self.id, {key: str(value) for key, value in tags.items()})

    def log_input(self, ref: str, name: str = "", digest: str = "") -> None:
        """Note a pinned thing that the run read, such as `dataset:flights@12`."""
        self.service.log_inputs(self.id, [RunInput(ref, name, digest)])

    def log_artifact(self, source: Path | str | bytes, name: str = "") -> list[Artifact]:
        """Keep a file, a folder or bytes."""
        return self.service.log_artifact(self.id, source, name)

    def fail(self, error: BaseException) -> None:
        """End the run as failed; the traceback is kept as the artifact `error/traceback.txt`."""
        text = "".join(traceback.format_exception(error))
        self.service.log_artifact(self.id, text.encode(errors="replace"), TRACEBACK_PATH)
        self.service.finish(self.id, RunStatus.FAILED, f"{type(error).__name__}: {error}"[:2000])
