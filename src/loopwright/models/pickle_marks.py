"""How a pickle is told from other files, without reading more than its beginning."""

from __future__ import annotations

import zipfile
from pathlib import Path

_PICKLE_ENDINGS = frozenset({".pkl", ".pickle", ".joblib", ".dill", ".pt", ".pth", ".ckpt"})


def is_pickle(path: Path) -> bool:
    """Whether a file is a pickle by its name or its first bytes, or an archive with one inside (as torch saves)."""
    if path.suffix.lower() in _PICKLE_ENDINGS:
        return True
    with path.open("rb") as stream:
        head = stream.read(4)
    if head[:1] == b"\x80" and head[1:2] and head[1] in range(2, 6):
        return True
    if head == b"PK\x03\x04":
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".pkl") for name in archive.namelist())
    return False
