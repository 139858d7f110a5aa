"""A trial in the hands of an objective function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loopwright.pipeline import TrialPruned
from loopwright.track import ActiveRun
from loopwright.train.spaces import Scalar, choice, integer, uniform
from loopwright.train.studies import Proposal


class Trial:
    """Suggests hyperparameters and takes reports. `run` is the trial's own run, to log to."""

    def __init__(self, number: int, proposal: Proposal, run: ActiveRun) -> None:
        self.number, self.run, self._proposal = number, run, proposal

    @property
    def params(self) -> dict[str, Any]:
        """What has been suggested so far."""
        return dict(self._proposal.params)

    def uniform(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number from `low` to `high`.

        Raises:
            Invalid: the ends are out of order, or the name has another space already.
        """
        return float(self._proposal.suggest(name, uniform(low, high, log=log)))

    def integer(self, name: str, low: int, high: int, *, log: bool = False, step: int = 1) -> int:
        """A whole number from `low` to `high`.

        Raises:
            Invalid: the ends are out of order, or the name has another space already.
        """
        return int(self._proposal.suggest(name, integer(low, high, log=log, step=step)))

    def choice(self, name: str, values: Sequence[Scalar]) -> Any:
        """One of some plain values.

        Raises:
            Invalid: there is none, or the name has another space already.
        """
        return self._proposal.suggest(name, choice(values))

    def report(self, value: float, step: int) -> None:
        """Say how well it goes so far; kept as the metric `intermediate` when the trial ends.

        Raises:
            TrialPruned: the trial is not worth going on with.
        """
        if self._proposal.report(float(value), step):
            raise TrialPruned(step)
