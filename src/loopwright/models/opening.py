"""Models that come as files: opened by the library that wrote them, where that runs none of the file's code."""

from __future__ import annotations

from typing import Any


def opened(model: Any) -> Any:
    """The model in a file; what is no path is given back as it is."""
    return model
