"""The words of this room: endpoints and their traffic, approvals, rollouts and the plans they follow."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from loopwright.serve import LogPolicy
from loopwright.stats import Sufficient

DAY_S = 86_400.0


class Share(msgspec.Struct, frozen=True, omit_defaults=True):
    """The share of an endpoint's traffic that one model version answers. A shadow answers nobody; it is only logged."""

    model: str
    bundle: str
    weight: float
    shadow: bool = False


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """An address that answers predictions.

    `stable` is the version that answers what no rollout takes; empty before the first release. `salt` decides which
    keys go to which version. `log` is what of its answers is logged; `revision` grows with every change of
    either.
    """

    name: str
    model: str
    project: str
    salt: str
    stable: str
    shares: tuple[Share, ...]
    rollout: str
    revision: int
    created_at: datetime
    actor: str
    log: LogPolicy = LogPolicy()


class ApprovalState(StrEnum):
    REQUESTED = "requested"
    GRANTED = "granted"
    DENIED = "denied"


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """A recorded yes or no to releasing a version, by a person or by the policy of a loop."""

    id: str
    subject: str
    model: str
    endpoint: str
    state: ApprovalState
    requested_at: datetime
    requested_by: str
    decided_at: datetime | None = None
    decided_by: str = ""
    reason: str = ""
    event: str = ""


class Quality(StrEnum):
    """What a rollout judges besides errors and latency: the loss of joined labels, or nothing."""

    LOSS = "loss"
    NONE = "none"


class OnTimeout(StrEnum):
    """What happens to a step that lasts too long without enough evidence."""

    HOLD = "hold"
    ROLL_BACK = "roll_back"


class RolloutStep(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One share of traffic. What is None is as the plan says."""

    share: float
    max_loss_increase: float | None = None
    min_labels: int | None = None
    min_step_s: float | None = None


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much worse than the control a candidate may be apart from its losses.

    `max_error_increase` is a difference of failed shares of requests (0.01: one in a hundred more);
    `max_latency_ratio` compares mean latencies. `min_requests` per version come before either is judged.
    """

    max_error_increase: float = 0.01
    max_latency_ratio: float = 2.0
    min_requests: int = 100


class RolloutPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a candidate takes over: shares of traffic, and what it must show at each of them.

    Losses lie between 0 and 1 (for classifiers: the Brier score). The candidate advances once its mean loss, over the
    whole rollout, is certainly less than `max_loss_increase` above the control's and `min_labels` of its answers in
    this step have their truth. It is taken back once its loss is certainly more than `roll_back_loss_increase` above
    the control's (by default the same margin). `alpha` is the chance that any interval of a comparison ever misses the
    truth, however often one looks.
    """

    steps: tuple[RolloutStep | float, ...] = (0.05, 0.25, 0.5)
    quality: Quality = Quality.LOSS
    max_loss_increase: float = 0.02
    roll_back_loss_increase: float | None = None
    alpha: float = 0.05
    min_labels: int = 200
    min_step_s: float = 0.0
    max_step_s: float = 14 * DAY_S
    on_timeout: OnTimeout = OnTimeout.ROLL_BACK
    limits: Limits = Limits()

    def step(self, index: int) -> RolloutStep:
        """The step at `index`, with the plan's values where it has none of its own."""
        given = self.steps[index]
        step = RolloutStep(share=float(given)) if isinstance(given, int | float) else given
        return RolloutStep(
            share=step.share,
            max_loss_increase=_first(step.max_loss_increase, self.max_loss_increase),
            min_labels=int(_first(step.min_labels, self.min_labels)),
            min_step_s=_first(step.min_step_s, self.min_step_s),
        )


class Guard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The watch over a version after it took all traffic.

    `holdback` leaves a small share with the version before it, so that losses are still compared side by side; with 0
    the guard compares errors and latency with what the control showed during the rollout.
    """

    duration_s: float = DAY_S
    holdback: float = 0.0


class RolloutState(StrEnum):
    RUNNING = "running"
    HELD = "held"
    GUARDING = "guarding"
    COMPLETED = "completed"
    ROLLED_BACK = "rolled_back"

    @property
    def active(self) -> bool:
        """Whether it still decides over traffic."""
        return self in (RolloutState.RUNNING, RolloutState.HELD, RolloutState.GUARDING)


class Arm(msgspec.Struct, frozen=True):
    """What one version showed in a span: its losses in [0, 1], its requests with how many failed, its latencies in
    milliseconds; as sufficient statistics, so that spans add up."""

    losses: Sufficient = Sufficient()
    requests: Sufficient = Sufficient()
    latency_ms: Sufficient = Sufficient()


class Stratum(msgspec.Struct, frozen=True):
    """What both versions showed in the same span of time, which began at `start`. Only within a span are they
    compared: shares of traffic change during a rollout, and days differ."""

    start: datetime
    control: Arm = Arm()
    candidate: Arm = Arm()


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """The planned change of an endpoint's traffic from `control` to `candidate`, and how far it has come.

    `starts` are the moments since which a share held: the first is `started_at`, the last `step_started_at`.
    """

    id: str
    project: str
    endpoint: str
    control: str
    candidate: str
    plan: RolloutPlan
    guard: Guard
    state: RolloutState
    step: int
    share: float
    started_at: datetime
    step_started_at: datetime
    starts: tuple[datetime, ...]
    ended_at: datetime | None = None
    reason: str = ""
    statistics: dict[str, Any] = {}
    control_before: Arm = Arm()
    event: str = ""
    revision: int = 0


def _first(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value
