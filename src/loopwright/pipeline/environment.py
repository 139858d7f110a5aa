"""The environment of a run: the interpreter and every installed distribution, as a lock that can be compared."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import msgspec

from loopwright.core import digest_bytes, encode

_DIST_INFO = re.compile(r"(?P<name>.+?)-(?P<version>[^-]+)\.(?:dist-info|egg-info)")


class Environment(msgspec.Struct, frozen=True):
    """What a run could import. `packages` maps distribution names (lower case, `-` for `_`) to versions."""

    python: str
    implementation: str
    system: str
    machine: str
    packages: dict[str, str]

    def lock(self) -> bytes:
        """The canonical bytes; equal environments have equal ones."""
        return encode(self)

    @property
    def digest(self) -> str:
        """The digest of the lock."""
        return digest_bytes(self.lock())


@cache
def current_environment() -> Environment:
    """The environment of this process."""
    return Environment(
        python=platform.python_version(),
        implementation=platform.python_implementation(),
        system=platform.system(),
        machine=platform.machine(),
        packages=installed(sys.path),
    )


def installed(search_path: Iterable[str]) -> dict[str, str]:
    """Distributions on a search path with their versions, from the names of their folders: that takes milliseconds."""
    found: dict[str, str] = {}
    for entry in search_path:
        folder = Path(entry or ".")
        if not folder.is_dir():
            continue
        for path in folder.iterdir():
            match = _DIST_INFO.fullmatch(path.name)
            if match is not None:
                found.setdefault(match["name"].lower().replace("_", "-"), match["version"])
    return dict(sorted(found.items()))


def environment_moves(before: Environment, now: Environment) -> list[str]:
    """What differs between two environments, in words; empty when nothing does."""
    moves = [
        f"{noun}: {old} → {new}"
        for noun, old, new in (
            ("python", f"{before.implementation} {before.python}", f"{now.implementation} {now.python}"),
            ("system", f"{before.system} {before.machine}", f"{now.system} {now.machine}"),
        )
        if old != new
    ]
    for name in sorted(before.packages.keys() | now.packages.keys()):
        old, new = before.packages.get(name, "absent"), now.packages.get(name, "absent")
        if old != new:
            moves.append(f"package {name}: {old} → {new}")
    return moves
