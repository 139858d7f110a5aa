"""The environment that a model was made in: the interpreter and every installed distribution, as a lock in text."""

from __future__ import annotations

import platform
from functools import cache
from importlib import metadata


@cache
def environment_lock() -> str:
    """The interpreter, the platform and each installed distribution with its version, one a line, sorted."""
    found = {f"{(item.metadata['Name'] or '').lower()}=={item.version}" for item in metadata.distributions()}
    head = [f"# python {platform.python_version()} ({platform.python_implementation()}, {platform.system().lower()})"]
    return "\n".join(head + sorted(line for line in found if not line.startswith("=="))) + "\n"


def library_versions(*names: str) -> dict[str, str]:
    """The versions of those of the named distributions that are installed."""
    found: dict[str, str] = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
