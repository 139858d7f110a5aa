"""Which tests stay on one worker: those that share something that takes long to make, so that it is made once.

pytest-xdist's own groups (`--dist loadgroup`) need a mark on each test, and pytest 9.2 ignores them without a word
(pytest-xdist, issue 1386). This asks the files instead: `--dist loadscope` with the units below.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Folders whose tests share a site, a server, fitted models, or the parsed source.
FOLDERS = (
    "tests/models/isolated",
    "tests/models",
    "tests/monitor",
    "tests/serve/edge",
    "tests/serve/fronts",
    "tests/serve/grpc",
    "tests/shape",
    "tests/ui",
)
_SHARED = re.compile(r"scope=\"(module|session)\"")


def unit_of(nodeid: str) -> str:
    """The folder or file that stays on one worker, or the test itself, which may run anywhere."""
    path = nodeid.split("::", 1)[0]
    for folder in FOLDERS:
        if path.startswith(f"{folder}/"):
            return folder
    return path if _shares(path) else nodeid


@cache
def _shares(path: str) -> bool:
    file = ROOT / path
    return file.exists() and _SHARED.search(file.read_text(encoding="utf-8")) is not None


@pytest.hookimpl(optionalhook=True)  # some environments have no pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """The scheduler of `--dist loadscope`, by our units: those of many tests begin, single tests fill the end."""
    if config.getvalue("dist") != "loadscope":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByUnit(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return unit_of(nodeid)

    return ByUnit(config, log)
