"""Refs: the one way to name a thing, in code, CLI, API and pages.

dataset:flights@12   feature:weather_hourly   run:0197…   model:delay@champion   model:delay@3
endpoint:delay       prediction:0197…         loop:delay  event:0197…            code:<digest>
"""

from __future__ import annotations

import msgspec

from loopwright.core.digests import is_digest
from loopwright.core.errors import Invalid
from loopwright.core.ids import is_id
from loopwright.core.names import check_model_name, check_name, check_path

NAMED = frozenset(
    {
        "dataset",
        "feature",
        "service",
        "experiment",
        "model",
        "endpoint",
        "monitor",
        "loop",
        "scoring",
        "pipeline",
        "suite",
        "project",
        "user",
    }
)
IDENTIFIED = frozenset(
    {
        "run",
        "step",
        "prediction",
        "event",
        "alert",
        "rollout",
        "approval",
        "gate",
        "search",
        "looprun",
        "materialisation",
    }
)
DIGESTED = frozenset({"code", "environment", "bundle", "object"})
PLACED = frozenset({"table"})
VERSIONED = frozenset({"dataset", "model", "feature", "table"})


class Ref(msgspec.Struct, frozen=True, order=True):
    """A parsed ref. `selector` is what stands behind the `@`: a version number, an alias, or empty for the newest."""

    kind: str
    name: str
    selector: str = ""

    @property
    def version(self) -> int | None:
        """The version number, where the selector is one."""
        return int(self.selector) if self.selector.isdecimal() else None

    @property
    def alias(self) -> str | None:
        """The alias, where the selector is one."""
        return self.selector if self.selector and not self.selector.isdecimal() else None

    def at(self, selector: int | str) -> Ref:
        """The same name at another version or alias."""
        return Ref(self.kind, self.name, str(selector))

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}@{self.selector}" if self.selector else f"{self.kind}:{self.name}"


def parse_ref(text: str, kind: str = "") -> Ref:
    """Parse a ref.

    Args:
        text: the full form `kind:name[@selector]`, or the short form without `kind:` where `kind` is given.
        kind: the kind that is expected; a full form of another kind is refused.

    Raises:
        Invalid: the text is no ref, or a ref of another kind.
    """
    head, colon, rest = text.partition(":")
    if not colon:
        if not kind:
            raise Invalid(
                f"{text!r} is not a ref",
                next_step="write it as kind:name, such as dataset:flights@3 or run:0197…",
            )
        head, rest = kind, text
    if kind and head != kind:
        raise Invalid(f"{text!r} is a {head} ref; a {kind} ref is needed here", next_step=f"write {kind}:NAME")
    name, at, selector = rest.partition("@")
    if at and head not in VERSIONED:
        raise Invalid(f"{text!r}: a {head} has no versions", next_step=f"write {head}:{name}")
    if at and not selector:
        raise Invalid(
            f"{text!r} ends in '@'", next_step=f"write {head}:{name}@VERSION, or {head}:{name} for the newest"
        )
    return Ref(head, _check_body(head, name, text), check_name("version or alias", selector) if selector else "")


def _check_body(kind: str, name: str, text: str) -> str:
    if kind == "model":
        return check_model_name(name)
    if kind in PLACED:
        return check_path(name)
    if kind in NAMED:
        return check_name(kind, name)
    if kind in IDENTIFIED and is_id(name):
        return name
    if kind in DIGESTED and is_digest(name):
        return name
    if kind in IDENTIFIED:
        raise Invalid(f"{text!r}: {name!r} is not an id", next_step="an id has 32 hex digits")
    if kind in DIGESTED:
        raise Invalid(f"{text!r}: {name!r} is not a digest", next_step="a digest has 64 hex digits")
    raise Invalid(
        f"{text!r}: there is no kind {kind!r}",
        next_step=f"the kinds are {', '.join(sorted(NAMED | PLACED | IDENTIFIED | DIGESTED))}",
    )
