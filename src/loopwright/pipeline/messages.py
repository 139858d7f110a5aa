"""What a run and its worker processes say to each other: one JSON object a line, over pipes."""

from __future__ import annotations

from typing import Any

import msgspec

from loopwright.core import Scope
from loopwright.pipeline.model import Argument, Graph, StepCall, Stored


class Setup(msgspec.Struct, frozen=True, tag="setup"):
    """The first message: where code, workspace and objects are. `open_workspace` is `module:function`."""

    root: str
    code_root: str
    scratch: str
    search_path: tuple[str, ...]
    objects: str
    objects_options: dict[str, str]
    scope: Scope
    open_workspace: str


class Bind(msgspec.Struct, frozen=True, tag="bind"):
    """Ask for a pipeline's parameters, converted, with defaults."""

    pipeline: str
    params: dict[str, Any]


class Bound(msgspec.Struct, frozen=True, tag="bound"):
    params: dict[str, Any]


class Build(msgspec.Struct, frozen=True, tag="build"):
    """Ask for a pipeline's graph; all parameters are given."""

    pipeline: str
    params: dict[str, Any]


class Built(msgspec.Struct, frozen=True, tag="built"):
    graph: Graph


class Execute(msgspec.Struct, frozen=True, tag="execute"):
    """Ask for a step to be run, with its arguments filled in. What it prints goes to the file `log`."""

    run_id: str
    call: StepCall
    arguments: dict[str, Argument]
    seed: int
    log: str


class Done(msgspec.Struct, frozen=True, tag="done"):
    output: Stored
    seconds: float


class Raised(msgspec.Struct, frozen=True, tag="raised"):
    """What was asked for raised. `code` is that of our error tree, or empty for other errors; `where` is `file:line`
    in the project."""

    kind: str
    message: str
    traceback: str
    where: str = ""
    code: str = ""
    next_step: str = ""


class Pruned(msgspec.Struct, frozen=True, tag="pruned"):
    """The step ended early because its report was hopeless."""

    step: int


class Metrics(msgspec.Struct, frozen=True, tag="metrics"):
    """Points to log: (key, value, step)."""

    points: list[tuple[str, float | str, int]]


class Tags(msgspec.Struct, frozen=True, tag="tags"):
    tags: dict[str, str]


class Kept(msgspec.Struct, frozen=True, tag="kept"):
    """Artifacts that are in the object store already: (path, digest, size in bytes)."""

    artifacts: list[tuple[str, str, int]]


class HandedOut(msgspec.Struct, frozen=True, tag="handed_out"):
    """Something with a ref that the run made, such as a dataset version."""

    ref: str
    digest: str


class Report(msgspec.Struct, frozen=True, tag="report"):
    """An intermediate value of what a search optimises; answered by Advice."""

    value: float
    step: int


class Advice(msgspec.Struct, frozen=True, tag="advice"):
    prune: bool


Request = Setup | Bind | Build | Execute | Advice
Answer = Bound | Built | Done | Raised | Pruned
Note = Metrics | Tags | Kept | HandedOut | Report

requests = msgspec.json.Decoder(Request)
note_lists = msgspec.json.Decoder(list[Note])
replies: msgspec.json.Decoder[Answer | Note] = msgspec.json.Decoder(Answer | Note)


def to_line(message: Request | Answer | Note) -> bytes:
    """A message as a line."""
    return msgspec.json.encode(message) + b"\n"
