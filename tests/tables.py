"""All tables that the package declares, whichever rooms a test happens to have loaded."""

from __future__ import annotations

import importlib
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "loopwright"


def declare_all() -> None:
    """Import each module of tables of each room."""
    for file in PACKAGE.rglob("tables.py"):
        if "metadata" in file.read_text(encoding="utf-8"):
            importlib.import_module(".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts))
