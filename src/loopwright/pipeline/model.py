"""The words of pipelines: graphs of step calls, stored outputs, captures, reproductions."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec


class StepOptions(msgspec.Struct, frozen=True):
    """How a step wants to be run. `timeout_s` of None sets no limit. One with an `effect` is never cached."""

    cache: bool = True
    effect: bool = False
    retries: int = 0
    timeout_s: float | None = None


class Stored(msgspec.Struct, frozen=True, omit_defaults=True):
    """A value in the object store: the codec that wrote it and the digest of its bytes, or of its parts' digests.

    `parts` are those of a composite value (codec `list`, `tuple` or `dict`), in order, each with its key or position.
    """

    codec: str
    digest: str
    size_bytes: int = 0
    parts: tuple[tuple[str, Stored], ...] = ()

    def part(self, key: str | int) -> Stored | None:
        """The part under a key or at a position, if there is one."""
        return next((stored for name, stored in self.parts if name == str(key)), None)


class Literal(msgspec.Struct, frozen=True, tag="literal"):
    """An argument that the pipeline gives as a value."""

    value: Any


class FromStep(msgspec.Struct, frozen=True, tag="step"):
    """An argument that another step makes; `path` selects inside its output."""

    step: str
    path: tuple[str | int, ...] = ()


class Ready(msgspec.Struct, frozen=True, tag="stored"):
    """An argument that a step has made: what is stored, and where in it the argument is."""

    stored: Stored
    path: tuple[str | int, ...] = ()


class Items(msgspec.Struct, frozen=True, tag="items"):
    """A list of arguments, some of which steps make."""

    items: tuple[Argument, ...]


class Entries(msgspec.Struct, frozen=True, tag="entries"):
    """A mapping of arguments, some of which steps make."""

    entries: dict[str, Argument]


Argument = Literal | FromStep | Ready | Items | Entries


class StepCall(msgspec.Struct, frozen=True):
    """One node of a graph: a step with its arguments. `function` is `module:name`, `code` its code's digest."""

    name: str
    function: str
    arguments: dict[str, Argument]
    options: StepOptions
    code: str = ""


class Graph(msgspec.Struct, frozen=True):
    """The calls of a pipeline in an order in which they can run, and what it hands out."""

    pipeline: str
    steps: tuple[StepCall, ...]
    outputs: dict[str, Argument]


class StepStatus(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"
    PRUNED = "pruned"


class StepRun(msgspec.Struct, frozen=True):
    """How one step of a run went. `cached` says that its output was there already, from the run `origin`."""

    name: str
    status: StepStatus
    cached: bool = False
    seconds: float = 0.0
    key: str = ""
    output: Stored | None = None
    origin: str = ""
    attempts: int = 0
    error: str = ""


class Made(msgspec.Struct, frozen=True):
    """What a step made: its output, the digest of what it logged (empty if nothing), and by which run."""

    output: Stored
    notes: str
    run_id: str


class PipelineRun(msgspec.Struct, frozen=True):
    """A run of a pipeline. An output that JSON can hold is given as it is, another as codec, digest and size."""

    run_id: str
    status: str
    outputs: dict[str, Any] = {}
    steps: tuple[StepRun, ...] = ()
    error: str = ""

    @property
    def ref(self) -> str:
        """`run:<id>`."""
        return f"run:{self.run_id}"


class Hardware(msgspec.Struct, frozen=True):
    """The machine that a run was on."""

    system: str
    machine: str
    processor: str
    cores: int
    memory_bytes: int
    gpus: tuple[str, ...] = ()


class Capture(msgspec.Struct, frozen=True):
    """What a run ran on, enough to rebuild it.

    `code` is the digest of the source tree, `environment` that of the lock, `git_diff` that of the uncommitted changes
    as `git diff` prints them; all three are in the object store. An empty digest means that there is none.
    """

    code: str
    environment: str
    python: str
    loopwright: str
    hardware: Hardware
    seed: int
    git_commit: str = ""
    git_dirty: bool = False
    git_diff: str = ""
    files: int = 0
    left_out: tuple[str, ...] = ()


class FileDifference(msgspec.Struct, frozen=True):
    """One file that was added, removed or changed. `diff` is empty where the file is no text or too large; `whole` says
    whether it shows all that changed."""

    path: str
    change: str
    diff: str
    whole: bool = True


class CodeDifference(msgspec.Struct, frozen=True):
    """What changed from one run's code, environment and inputs to another's, each as (before, after)."""

    commits: tuple[str, str]
    uncommitted: tuple[bool, bool]
    files: tuple[FileDifference, ...]
    packages: dict[str, tuple[str, str]]
    settings: dict[str, tuple[str, str]]
    inputs: dict[str, tuple[str, str]]

    @property
    def is_empty(self) -> bool:
        """Whether both ran the same code in the same environment on the same inputs."""
        same = len(set(self.commits)) == 1 and len(set(self.uncommitted)) == 1
        return same and not (self.files or self.packages or self.settings or self.inputs)


class RunRequest(msgspec.Struct, frozen=True):
    """What a run of a pipeline is asked to do.

    Args:
        pipeline: `module:function`, importable from the project's root.
        params: its parameters; a dataset's ref without a version means the newest, and is pinned for the run.
        experiment: where the run belongs; by default the pipeline's name.
        run_id: the id of a run that did not finish, to go on with it; or a new id from `new_id()`.
        use_cache: whether outputs of other runs may be used.
        seed: seeds `random`, NumPy and torch in each step, and is a part of every cache key.
        pins: refs of datasets with the versions that they mean, where that is not to be looked up.
        recorded: the steps of another run, whose effects are not to be had again.
    """

    pipeline: str
    params: dict[str, Any] = {}
    experiment: str = ""
    run_id: str = ""
    use_cache: bool = True
    seed: int = 0
    name: str = ""
    parent: str = ""
    kind: str = "pipeline"
    tags: dict[str, str] = {}
    pins: dict[str, str] = {}
    recorded: dict[str, StepRun] = {}


class PipelineRecord(msgspec.Struct, frozen=True):
    """What is kept of a pipeline's run beside the run itself: enough to run it again."""

    run_id: str
    pipeline: str
    params: dict[str, Any]
    inputs: dict[str, str]
    seed: int
    capture: Capture | None
    outputs: dict[str, Stored] = {}


class Verdict(StrEnum):
    IDENTICAL = "identical"
    WITHIN_TOLERANCE = "within_tolerance"
    DIFFERENT = "different"


class Comparison(msgspec.Struct, frozen=True):
    """One output or metric of two runs. The differences are the largest of any element; None where there are none."""

    name: str
    verdict: Verdict
    max_absolute: float | None = None
    max_relative: float | None = None
    detail: str = ""


class Reproduction(msgspec.Struct, frozen=True):
    """A run, the run that repeated it, and how they compare. `moved` names each input that is not what it was."""

    run: str
    new_run: str
    verdict: Verdict
    moved: list[str]
    comparisons: list[Comparison]
