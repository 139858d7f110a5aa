"""Force a committed version of a local table to the disk: delta-rs renames in the right order, but does not sync."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import unquote


def sync_version(folder: Path, version: int) -> None:
    """After this, the version survives the loss of power: its data files first, then its log entry, and the checkpoint
    that was made of it, if one was: a reader trusts it instead of the entries before."""
    log = folder / "_delta_log"
    entry = log / f"{version:020}.json"
    parents = {folder}
    for line in entry.read_bytes().splitlines():
        added = json.loads(line).get("add")
        if added is not None:
            path = folder / unquote(added["path"])
            _sync(path)
            parents.add(path.parent)
    _sync(entry)
    checkpoint = log / f"{version:020}.checkpoint.parquet"
    if checkpoint.exists():
        _sync(checkpoint)
        _sync(log / "_last_checkpoint")
    for parent in (*parents, log):
        _sync_folder(parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
