"""Tags of registered names and versions: what may be stored, and how changes are merged. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping

from loopwright.core import Invalid

MAX_KEY = 250
MAX_VALUE = 100_000


def checked_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags, if all of them can be stored.

    Raises:
        Invalid: a key or a value is too long, a key is empty or cannot be printed, or a value holds a NUL character.
    """
    for key, value in tags.items():
        if not 0 < len(key) <= MAX_KEY or not key.isprintable():
            raise Invalid(
                f"{key[:60]!r} cannot name a tag", next_step=f"use 1 to {MAX_KEY} characters that can be printed"
            )
        if len(value) > MAX_VALUE:
            raise Invalid(
                f"the tag {key!r} has {len(value):,} characters; the limit is {MAX_VALUE:,}",
                next_step="keep it as an artifact of the run",
            )
        if "\x00" in value:
            raise Invalid(f"the tag {key!r} holds a NUL character", next_step="keep it as an artifact of the run")
    return dict(tags)


def merged_tags(held: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    """The tags after changes; None takes one away. Raises as `checked_tags` does, for what is set."""
    checked_tags({key: value for key, value in changes.items() if value is not None})
    merged = {**held, **changes}
    return {key: value for key, value in merged.items() if value is not None}


def changed_tags(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str | None]:
    """The tags that have another value than before; None for those that were taken away."""
    keys = sorted(before.keys() | after.keys())
    return {key: after.get(key) for key in keys if before.get(key) != after.get(key)}
