"""The one allow-list for names and paths that come from outside (DESIGN §7 rule 1)."""

from __future__ import annotations

import re

from loopwright.core.errors import Invalid

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,127}")
_PART = re.compile(r"[^/\\\x00-\x1f\x7f:*?\"<>|]{1,255}")
_RESERVED = {".", ".."}
_MAX_PATH = 1024
_MAX_MODEL_NAME = 256


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


def check_model_name(value: str) -> str:
    """`value`, if it may name a registered model: names that other registries hold may have spaces and any letters.

    Raises:
        Invalid: it is blank, over 256 characters, or holds `/`, `:`, `@` or a character that cannot be printed.
    """
    plain = isinstance(value, str) and value.isprintable() and not any(sign in value for sign in "/:@")
    if plain and value.strip() and len(value) <= _MAX_MODEL_NAME and value not in _RESERVED:
        return value
    raise Invalid(
        f"{value[:60]!r} cannot name a model" if isinstance(value, str) else f"{value!r} cannot name a model",
        next_step=f"use up to {_MAX_MODEL_NAME} characters without '/', ':' and '@'",
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
        next_step="join parts with '/', without '..', a leading '/', control characters and any of \\ : * ? \" < > |",
    )
