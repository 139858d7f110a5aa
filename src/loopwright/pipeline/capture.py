"""What a run ran on: git state, source tree, environment, hardware."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from loopwright import __version__
from loopwright.core import Invalid, Unavailable, check_path, run_program
from loopwright.pipeline.environment import current_environment
from loopwright.pipeline.model import Capture, Hardware
from loopwright.store import ObjectStore, put_tree_entries

_SUFFIXES = frozenset(
    {".py", ".pyi", ".pyx", ".toml", ".cfg", ".ini", ".yaml", ".yml", ".json", ".sql", ".txt", ".md", ".ipynb"}
    | {".sh", ".r", ".jl", ".c", ".h", ".cpp", ".proto", ".jinja", ".html"}
)
_NAMES = frozenset({"Dockerfile", "Makefile", "requirements.lock", "uv.lock", "poetry.lock", "pdm.lock"})
_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "venv", "build", "dist"})
_MAX_FILE_BYTES = 2 << 20
_MAX_FILES = 20_000
_MAX_LEFT_OUT = 50
_GIT_TIMEOUT_S = 20.0


class SourceFiles(msgspec.Struct, frozen=True):
    """The files of a project that are code or settings; `left_out` are such files that are too large or oddly named."""

    paths: tuple[str, ...]
    left_out: tuple[str, ...]


def capture_run(objects: ObjectStore, root: Path, seed: int) -> Capture:
    """Record source tree, git state, environment and hardware; the bytes go to the object store."""
    environment = current_environment()
    files = source_files(root)
    commit, diff = git_state(root)
    tree = put_tree_entries(objects, {path: root / path for path in files.paths}) if files.paths else ""
    return Capture(
        code=tree,
        environment=objects.put_bytes(environment.lock()),
        python=environment.python,
        loopwright=__version__,
        hardware=this_hardware(),
        seed=seed,
        git_commit=commit,
        git_dirty=bool(diff),
        git_diff=objects.put_bytes(diff) if diff else "",
        files=len(files.paths),
        left_out=files.left_out[:_MAX_LEFT_OUT],
    )


def source_files(root: Path) -> SourceFiles:
    """The source files below a folder: those that git does not ignore, or without git all outside of hidden folders."""
    kept: list[str] = []
    left_out: list[str] = []
    for path in _listed_by_git(root) or _walked(root):
        file = root / path
        if not _is_source(path) or file.is_symlink() or not file.is_file():
            continue
        fits = len(kept) < _MAX_FILES and file.stat().st_size <= _MAX_FILE_BYTES and _is_storable(path)
        (kept if fits else left_out).append(path)
    return SourceFiles(tuple(sorted(kept)), tuple(sorted(left_out)))


def git_state(root: Path) -> tuple[str, bytes]:
    """The commit and the uncommitted changes of tracked files below `root`; both empty where git knows nothing."""
    commit = _git(root, "rev-parse", "--verify", "HEAD").strip()
    if not commit:
        return "", b""
    with TemporaryDirectory(prefix="loopwright-") as folder:
        # A file, because a diff may hold bytes that are no text.
        diff = Path(folder) / "diff"
        _git(root, "diff", "HEAD", "--binary", f"--output={diff}", "--", ".")
        return commit, diff.read_bytes() if diff.exists() else b""


def this_hardware() -> Hardware:
    """The machine that this process is on."""
    import psutil

    return Hardware(
        system=platform.platform(terse=True),
        machine=platform.machine(),
        processor=_processor(),
        cores=os.cpu_count() or 1,
        memory_bytes=int(psutil.virtual_memory().total),
        gpus=_gpus(),
    )


def _listed_by_git(root: Path) -> list[str]:
    listing = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    return [path for path in listing.split("\0") if path]


def _walked(root: Path) -> Iterator[str]:
    for folder, names, files in os.walk(root):
        names[:] = [name for name in sorted(names) if not name.startswith(".") and name not in _SKIPPED]
        base = Path(folder).relative_to(root)
        yield from ((base / name).as_posix() for name in files)


def _is_source(path: str) -> bool:
    parts = path.split("/")
    if any(part.startswith(".") or part in _SKIPPED for part in parts[:-1]):
        return False
    return parts[-1] in _NAMES or Path(parts[-1]).suffix.lower() in _SUFFIXES


def _is_storable(path: str) -> bool:
    try:
        check_path(path)
    except Invalid:
        return False
    return True


def _git(root: Path, *arguments: str) -> str:
    """What git prints; nothing where git is missing, fails, or `root` is in no repository."""
    try:
        done = run_program(["git", "-C", str(root), *arguments], timeout_s=_GIT_TIMEOUT_S)
    except Unavailable:
        return ""
    return done.stdout if done.exit_code == 0 else ""


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _gpus() -> tuple[str, ...]:
    if not Path("/dev/nvidiactl").exists():
        return ()
    try:
        done = run_program(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], timeout_s=10.0)
    except Unavailable:
        return ()
    return tuple(line.strip() for line in done.stdout.splitlines() if line.strip()) if done.exit_code == 0 else ()
