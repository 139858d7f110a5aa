"""Compiled parts: each has a plain way beside it, which is taken where it was not built, or is not wanted."""

from __future__ import annotations

import os

WITHOUT = "LOOPWRIGHT_PURE_PYTHON"
"""Set this variable, to anything, to have the plain ways."""


def wants_compiled() -> bool:
    """Whether compiled parts may be used in this process."""
    return WITHOUT not in os.environ
