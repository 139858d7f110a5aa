"""Bundles checked out of the object store, each once per machine, verified. No SQL: the inference process uses it."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from loopwright.core import Conflict, LoopwrightError, new_id
from loopwright.models.bundle import Bundle

if TYPE_CHECKING:
    from loopwright.store import ObjectStore


def fetch_bundle(objects: ObjectStore, digest: str, cache: Path) -> Bundle:
    """The bundle with that digest, in a folder of the cache. Several processes may fetch the same one at once.

    Raises:
        NotFound: there is no such bundle.
        Corrupt: its stored bytes are damaged.
        Unavailable: the store does not answer, or the disk is full.
    """
    from loopwright.store import checkout

    target = cache / digest
    if target.exists():
        found = _whole(target)
        if found is not None:
            return found
    with contextlib.suppress(Conflict):  # another process was quicker
        checkout(objects, digest, target)
    bundle = Bundle(target)
    bundle.verify()
    return bundle


def _whole(folder: Path) -> Bundle | None:
    """The bundle in a folder of the cache; a damaged copy is thrown away."""
    try:
        bundle = Bundle(folder)
        bundle.verify()
    except LoopwrightError:
        doomed = folder.with_name(f".{folder.name}.{new_id()}")
        folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)
        return None
    return bundle
