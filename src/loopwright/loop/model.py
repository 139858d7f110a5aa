"""The words of this room: loops, what triggers them, and their runs."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec

from loopwright.release import AnyGate, Guard, RolloutPlan

ParamValue = str | int | float | bool


class Trigger(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind"):
    """Base of what starts a loop; `kind` says which one it is."""


class OnAlert(Trigger, frozen=True, tag="on_alert"):
    """An alert of this monitor opens. `about` narrows it down, such as to `performance`; empty means any alert."""

    monitor: str
    about: str = ""


class Every(Trigger, frozen=True, tag="every"):
    """So many seconds of workspace time have passed since the loop was last triggered (or declared)."""

    seconds: float


class OnNewVersion(Trigger, frozen=True, tag="on_new_version"):
    """A new version of this dataset was made."""

    dataset: str


class Manual(Trigger, frozen=True, tag="manual"):
    """Only a person triggers it. (A person can trigger every loop.)"""


AnyTrigger = OnAlert | Every | OnNewVersion | Manual


class ApprovalPolicy(StrEnum):
    """Whether a person must say yes before a version that passed its gates takes traffic."""

    AUTOMATIC = "automatic"
    PERSON = "person"


class Loop(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Trigger → pipeline → gates → approval → rollout → guard, declared once.

    `pipeline` is `module:function`; `params` go to it, and text among them may hold `{now}` (the workspace's time when
    the loop was triggered, ISO 8601), `{loop}` and `{cause}`. `output` is the name under which the pipeline hands out
    the model version that it registered, `holdout` the one under which it hands out the dataset version to compare
    versions on, if it does.
    """

    name: str
    endpoint: str
    model: str
    pipeline: str
    triggers: tuple[AnyTrigger, ...] = (Manual(),)
    params: dict[str, ParamValue] = {}
    output: str = "model"
    holdout: str = "holdout"
    gates: tuple[AnyGate, ...] = ()
    approval: ApprovalPolicy = ApprovalPolicy.AUTOMATIC
    rollout: RolloutPlan = RolloutPlan()
    guard: Guard = Guard()
    cooldown_s: float = 0.0
    max_concurrent: int = 1
    training_timeout_s: float = 86_400.0
    training_attempts: int = 2


class LoopState(StrEnum):
    """Where a run of a loop stands. A run only ever moves down this list."""

    PENDING = "pending"
    TRAINING = "training"
    GATING = "gating"
    WAITING_APPROVAL = "waiting_approval"
    ROLLING_OUT = "rolling_out"
    GUARDING = "guarding"
    FINISHED = "finished"


class LoopOutcome(StrEnum):
    """How a run of a loop ended."""

    NONE = ""
    RELEASED = "released"
    REJECTED = "rejected"
    DENIED = "denied"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"
    CANCELLED = "cancelled"


class LoopRun(msgspec.Struct, frozen=True, kw_only=True):
    """One pass around a loop.

    `spec` is the loop as it was declared when the run began. `cause` is the event that triggered it, `last_event` the
    newest decision in it: the cause of the next one. `training_run` is minted before training starts, anew for each
    attempt. `revision` grows by one with each transition.
    """

    id: str
    project: str
    loop: str
    spec: Loop
    state: LoopState
    outcome: LoopOutcome = LoopOutcome.NONE
    trigger: str
    cause: str
    last_event: str = ""
    training_run: str = ""
    attempt: int = 0
    model_version: str = ""
    holdout: str = ""
    approval: str = ""
    rollout: str = ""
    reason: str = ""
    created_at: datetime
    updated_at: datetime
    revision: int = 0

    @property
    def ref(self) -> str:
        return f"looprun:{self.id}"

    @property
    def active(self) -> bool:
        """Whether something is still to be done or waited for."""
        return self.state is not LoopState.FINISHED


class LoopInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A declared loop with its revision and times."""

    loop: Loop
    project: str
    revision: int
    declared_at: datetime
    declared_by: str
    last_triggered_at: datetime | None = None


class Settled(msgspec.Struct, frozen=True):
    """Whether the controller has done everything that can be done at the present time of the workspace.

    `waiting_for` names what is still under way where it has not.
    """

    settled: bool
    now: datetime
    seconds: float
    waiting_for: list[str] = []
