"""The one allow-list for names and paths that come from outside (DESIGN §7 rule 1)."""

from __future__ import annotations

import re

from loopwright.core.errors import Invalid

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,127}")
_PART = re.compile(r"[^/\\\x00-\x1f\x7f:*?\"<>|]{1,255}")
_RESERVED = {".", ".."}
_MAX_PATH = 1024


def check_name(noun: str, value: str) -> str:
    """`value`, if it may name a thing of kind `noun`.

    Raises:
        Invalid: it is empty, too long, or holds a character outside letters, digits, `_`, `-` and `.`.
    """
    if isinstance(value, str) and _NAME.fullmatch(value) and ".." not in value:
        return value
    raise Invalid(
        f"{value!r} cannot name a {noun}",
        next_step="use up to 128 letters, digits, '_', '-' and '.', starting with a letter or digit",
    )


def check_path(value: str) -> str:
    """`value`, if it is a safe relative path with `/` between its parts.

    Raises:
        Invalid: it is absolute, climbs with `..`, or holds a character that some file system refuses.
    """
    parts = value.split("/")
    if len(value) <= _MAX_PATH and all(_PART.fullmatch(part) and part not in _RESERVED for part in parts):
        return value
    raise Invalid(
        f"{value!r} is not a safe relative path",
        next_step="use parts of plain characters joined by '/', without '..' and without a leading '/'",
    )
