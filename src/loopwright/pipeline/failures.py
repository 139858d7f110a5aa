"""How a run of a pipeline ends early."""

from __future__ import annotations

from loopwright.core import Invalid
from loopwright.pipeline.messages import Raised


class StepFailed(Invalid):
    """A step raised, ran out of time, or its process died. The run is marked failed; its other steps were stopped.

    `traceback` is the user's, and is kept as the run's artifact `error/traceback.txt`.
    """

    def __init__(self, message: str, *, run_id: str, step: str, where: str = "", traceback: str = "") -> None:
        super().__init__(
            message,
            where=where,
            next_step=f"correct it and go on with the same run: its id is {run_id}; finished steps are not run again",
        )
        self.run_id, self.step, self.traceback = run_id, step, traceback


class RunPruned(Exception):
    """A search has seen enough of this run."""

    def __init__(self, step: int) -> None:
        super().__init__(f"pruned at step {step}")
        self.step = step


class Attempt(Exception):
    """One attempt at a step came to nothing."""

    def __init__(self, kind: str, message: str, where: str = "", traceback: str = "") -> None:
        super().__init__(f"{kind}: {message}" if message else kind)
        self.where, self.traceback = where, traceback

    @classmethod
    def raised(cls, answer: Raised) -> Attempt:
        """From what the worker told."""
        message = f"{answer.message} ({answer.next_step})" if answer.next_step else answer.message
        return cls(answer.kind, message, answer.where, answer.traceback)
