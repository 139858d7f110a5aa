"""Where a process's spools lie, and the way from each to its workspace."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from loopwright.core import Location, Settings, locate, user_cache
from loopwright.track import About, Spool

if TYPE_CHECKING:
    from loopwright.track import SpoolTarget

_spools: dict[tuple[str, str], Spool] = {}
_lock = threading.Lock()


def spool_for(workspace: str | Path | None = None, project: str | None = None) -> tuple[Spool, Settings]:
    """This process's spool for a workspace and project, and the settings that hold there.

    Raises:
        Invalid: the settings are malformed.
    """
    about, location = about_of(workspace, project)
    with _lock:
        spool = _spools.get((about.where, about.project))
        if spool is None:
            settings = location.settings
            root = spool_root(location, remote="://" in about.where)
            spool = Spool(root, about, lambda: open_target(about), max_bytes=settings.max_spool_bytes)
            _spools[about.where, about.project] = spool
        return spool, location.settings


def about_of(workspace: str | Path | None, project: str | None) -> tuple[About, Location]:
    """Where runs belong, as `connect` finds it.

    Raises:
        Invalid: the settings are malformed.
    """
    given = str(workspace) if workspace is not None else os.environ.get("LOOPWRIGHT_WORKSPACE", "")
    if "://" in given:
        return About(given.rstrip("/"), project or ""), locate(Path.cwd())
    location = locate(workspace)
    return About(str(location.root), project or location.settings.project), location


def spool_root(location: Location, *, remote: bool) -> Path:
    """The folder of all spools: LOOPWRIGHT_SPOOL, else beside the stores, or for a server in the user's cache."""
    named = os.environ.get("LOOPWRIGHT_SPOOL")
    if named:
        return Path(named).absolute()
    return user_cache() / "loopwright" / "spool" if remote else location.data / "spool"


def spool_roots(workspace: str | Path | None = None) -> list[Path]:
    """The folders of all spools that this machine may have: that of the workspace here, and the user's cache.

    Raises:
        Invalid: the settings are malformed.
    """
    _, location = about_of(workspace, None)
    return list(dict.fromkeys(spool_root(location, remote=remote) for remote in (False, True)))


def open_target(about: About) -> SpoolTarget:
    """Open the workspace that a spool belongs to, as a receiver of batches.

    Raises:
        LoopwrightError: it cannot be opened now.
    """
    if "://" in about.where:
        from loopwright.server import RemoteTarget

        return RemoteTarget(about.where, os.environ.get("LOOPWRIGHT_TOKEN"), about.project or None)
    from loopwright.track import LocalTarget
    from loopwright.workspace import open_workspace

    workspace = open_workspace(about.where, project=about.project or None)
    return LocalTarget(workspace.stores, workspace.scope, workspace.close)


def close_spools() -> None:
    """Deliver what is left within a bounded time, and end the threads."""
    with _lock:
        spools = list(_spools.values())
        _spools.clear()
    for spool in spools:
        spool.close()


def _after_fork() -> None:
    """Runs that a child starts get a spool of its own, with a thread of its own."""
    global _lock
    _lock = threading.Lock()
    _spools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
