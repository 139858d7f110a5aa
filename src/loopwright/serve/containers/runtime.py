"""What a serving process needs of this environment: found by starting one and looking at what it loaded."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import msgspec

from loopwright.core import Unavailable

_OURS = "loopwright"
# Loaded when they are needed, not at the start.
_OPTIONAL = ("uvloop", "hpack", "protobuf")
_LOOK = """
import sys
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path
for name in ("cli.main", "cli.serve", "cli.serve_sources", "serve.process", "server.serving", "models.isolated"):
    try:
        import_module("loopwright." + name)
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("loopwright"):
            raise
from loopwright.models import Bundle
bundle = Bundle(Path(sys.argv[1]))
bundle.predictor()
if lookup := bundle.lookup():
    from loopwright.features import LookupReader
    from loopwright.serve import feedback, filling
    from loopwright.store import open_online
    LookupReader(lookup)
    try:
        import redis
    except ImportError:
        pass
known = packages_distributions()
print("\\n".join(sorted({d for m in list(sys.modules) for d in known.get(m.partition(".")[0], ())})))
"""


class Runtime(msgspec.Struct, frozen=True):
    """The packages of a serving process, by name and version, for one interpreter on one kind of machine."""

    packages: dict[str, str]
    python: str
    machine: str


def look_up(bundle: Path) -> Runtime:
    """What a process that serves this bundle loads here.

    Raises:
        Unavailable: such a process cannot be started.
    """
    import platform

    done = subprocess.run(
        [sys.executable, "-c", _LOOK, str(bundle)], capture_output=True, text=True, check=False, timeout=120
    )
    if done.returncode:
        raise Unavailable(f"the bundle cannot be loaded here: {done.stderr.strip().splitlines()[-1][:300]}")
    names = {name for name in done.stdout.split() if name.lower() != _OURS}
    names |= {name for name in _OPTIONAL if _installed(name)}
    found: dict[str, str] = {}
    for name in sorted(names - {"setuptools", "pip"}, key=str.lower):
        found[name] = distribution(name).version
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return Runtime(found, python, platform.machine())


def files_of(runtime: Runtime) -> Iterator[tuple[str, Path]]:
    """The files of all packages and of Loopwright itself, by their path below a folder of packages."""
    for name in runtime.packages:
        yield from _package(distribution(name))
    root = Path(__file__).resolve().parents[2]
    for path in sorted(root.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield f"{_OURS}/{path.relative_to(root).as_posix()}", path
    yield from _own_metadata()


def _package(found: Distribution) -> Iterator[tuple[str, Path]]:
    for file in found.files or ():
        path = Path(str(file.locate()))
        outside = ".." in file.parts or file.parts[0] == "__pycache__" or file.suffix == ".pyc"
        if not outside and "__pycache__" not in file.parts and path.is_file():
            yield file.as_posix(), path


def _own_metadata() -> Iterator[tuple[str, Path]]:
    """Our own metadata, from which the version is read; files that name places of this machine stay here."""
    for file in distribution(_OURS).files or ():
        if file.name in ("METADATA", "entry_points.txt") and file.parent.suffix == ".dist-info":
            yield file.as_posix(), Path(str(file.locate()))


def _installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def pinned(runtime: Runtime, extra: Iterable[str] = ()) -> str:
    """The packages as a requirements file with exact versions."""
    lines = [f"{name}=={version}" for name, version in runtime.packages.items()]
    for line in lines:
        if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9._+!-]+", line):
            raise ValueError(f"{line!r} is no pinned requirement")
    return "\n".join([*lines, *extra]) + "\n"
