"""Bundles checked out of the object store, each once per machine, verified. No SQL: the inference process uses it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from loopwright.core import Conflict, Corrupt, LoopwrightError, Unavailable, digest_file, new_id, user_cache
from loopwright.models.bundle import Bundle
from loopwright.models.predictor import MANIFEST_FILE
from loopwright.models.signing import Trust, check_signed, signatures_in

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
        held = [signature for signature, _ in signatures_in(bundle.folder)]  # of one that was brought from elsewhere
        check_signed(bundle.folder, [*(objects.get(item, verify=True) for item in signatures), *held], trust)
    return bundle


def bundle_in(folder: Path, trust: Trust) -> Bundle:
    """The bundle in a folder that somebody names: whole, and signed by a trusted key where that is asked for.

    Raises:
        NotFound: the folder holds no bundle.
        Corrupt: a byte is not what was built, or not what a trusted key signed.
        Conflict: a signature is required, and none is of a trusted key.
    """
    bundle = Bundle(folder)
    bundle.verify()
    check_signed(folder, [signature for signature, _ in signatures_in(folder)], trust)
    return bundle


def holds_bundle(cache: Path, digest: str) -> bool:
    """Whether the cache has a bundle; what of it is damaged is found when it is fetched."""
    return (cache / digest).exists() and _mark_of(cache / digest).exists()


def brought_bundle(digest: str, cache: Path, bring: Callable[[Path], object]) -> Bundle:
    """The bundle with that digest in a folder of the cache; brought there first where it is missing or damaged.

    Args:
        bring: writes the bundle, each file as its digest says, with the signatures over it, to a folder that is not
            there yet.

    Raises:
        Corrupt: it is not whole when it was brought.
        Unavailable: the cache cannot be written.
        LoopwrightError: as `bring` raises.
    """
    target = cache / digest
    if holds_bundle(cache, digest) and (found := _whole(target, _mark_of(target))) is not None:
        return found
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=cache, prefix=".") as scratch:
            fresh = Path(scratch) / "bundle"
            bring(fresh)
            Bundle(fresh).verify()
            _write(_mark_of(target), digest_file(fresh / MANIFEST_FILE))
            if target.exists():  # without a mark: it was never known to be whole
                shutil.rmtree(target, ignore_errors=True)
            with contextlib.suppress(OSError):  # another process was quicker
                fresh.rename(target)
        bundle = Bundle(target)
    except OSError as error:
        raise Unavailable(
            f"the model cannot be kept: {error.strerror or error}",
            where=str(target),
            next_step="free some space, or let XDG_CACHE_HOME name a writable folder",
        ) from error
    bundle.verify()
    return bundle


def user_bundles() -> Path:
    """The cache for bundles of workspaces on servers: one for all that this person does on this machine."""
    return user_cache() / "loopwright" / "bundles"


def _fetched(objects: ObjectStore, digest: str, cache: Path) -> Bundle:
    from loopwright.store import checkout, read_tree

    target = cache / digest
    mark = _mark_of(target)
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


def _mark_of(target: Path) -> Path:
    """Beside a bundle of the cache: the digest of its manifest."""
    return target.with_name(f"{target.name}.manifest")


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
