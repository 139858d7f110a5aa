"""Where this room keeps things outside the database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loopwright.store import Stores

READER = "windows"
COMPACTOR = "tables"


def prediction_folder(stores: Stores) -> Path:
    """Where the inference process keeps its journal."""
    return stores.data / "journal" / "predictions"


def feedback_folder(stores: Stores) -> Path:
    """Where feedback is kept until it is folded and in its table."""
    return stores.data / "journal" / "feedback"


def predictions_key(project: str, endpoint: str) -> str:
    """The key of the table that holds an endpoint's predictions."""
    return f"predictions/{project}/{endpoint}"


def feedback_key(project: str, endpoint: str) -> str:
    """The key of the table that holds an endpoint's feedback."""
    return f"feedback/{project}/{endpoint}"
