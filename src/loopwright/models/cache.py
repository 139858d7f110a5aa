"""Bundles checked out of the object store, each once per machine, verified. No SQL: the inference process uses it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from loopwright.core import Conflict, Corrupt, LoopwrightError, digest_file, new_id
from loopwright.models.bundle import Bundle
from loopwright.models.predictor import MANIFEST_FILE
from loopwright.models.signing import Trust, check_signed

if TYPE_CHECKING:
    from loopwright.store import ObjectStore

NO_TRUST = Trust()


def fetch_bundle(
    objects: ObjectStore, digest: str, cache: Path, signatures: Iterable[str] = (), trust: Trust = NO_TRUST
) -> Bundle:
    """The bundle with that digest, in a folder of the cache. Several processes may fetch the same one at once.

    Args:
        signatures: the digests of the signatures over it that are kept in the store.
        trust: whose signatures count, and whether one is required; nobody's by default.

    Raises:
        NotFound: there is no such bundle.
        Conflict: a signature is required, and none is of a trusted key.
        Corrupt: its stored bytes are damaged, or are not what a trusted key signed.
        Unavailable: the store does not answer, or the disk is full.
    """
    bundle = _fetched(objects, digest, cache)
    if trust.asks:
        check_signed(bundle.folder, [objects.get(item, verify=True) for item in signatures], trust)
    return bundle


def holds_bundle(cache: Path, digest: str) -> bool:
    """Whether the cache has a bundle; what of it is damaged is found when it is fetched."""
    return (cache / digest).exists() and (cache / f"{digest}.manifest").exists()


def keep_bundle(folder: Path, digest: str, cache: Path) -> None:
    """Move a bundle's folder, which was brought from elsewhere and verified, into the cache, in place of any other."""
    _write(cache / f"{digest}.manifest", digest_file(folder / MANIFEST_FILE))
    shutil.rmtree(cache / digest, ignore_errors=True)
    with contextlib.suppress(OSError):  # another process was quicker
        folder.rename(cache / digest)


def _fetched(objects: ObjectStore, digest: str, cache: Path) -> Bundle:
    from loopwright.store import checkout, read_tree

    target, mark = cache / digest, cache / f"{digest}.manifest"
    if target.exists():
        found = _whole(target, mark)
        if found is not None:
            return found
    manifest = read_tree(objects, digest).entry(MANIFEST_FILE)
    if manifest is not None:
        _write(mark, manifest.digest)
    with contextlib.suppress(Conflict):  # another process was quicker
        checkout(objects, digest, target)
    bundle = Bundle(target)
    bundle.verify()
    return bundle


def _write(mark: Path, digest: str) -> None:
    """Keep the digest of a bundle's manifest beside the cached folder, so that it is known without the store."""
    mark.parent.mkdir(parents=True, exist_ok=True)
    temporary = mark.with_name(f".{mark.name}.{new_id()}")
    temporary.write_text(digest, encoding="ascii")
    temporary.replace(mark)


def _whole(folder: Path, mark: Path) -> Bundle | None:
    """The bundle in a folder of the cache; a damaged copy is thrown away."""
    try:
        if mark.read_text(encoding="ascii", errors="replace") != digest_file(folder / MANIFEST_FILE):
            raise Corrupt("the bundle's manifest is not what was kept", where=str(folder))
        bundle = Bundle(folder)
        bundle.verify()
    except (LoopwrightError, OSError):
        doomed = folder.with_name(f".{folder.name}.{new_id()}")
        folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)
        return None
    return bundle
