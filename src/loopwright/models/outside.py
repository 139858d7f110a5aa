"""Bundles that are not registered: in a folder, or in a zip that was exported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from loopwright.core import NotFound, digest_file
from loopwright.models.bundle import Bundle
from loopwright.models.carrying import opened_bundle
from loopwright.models.inspecting import HeldFile, Inspection, Vouch, Vouched
from loopwright.models.predictor import MANIFEST_FILE
from loopwright.models.scanning import scan
from loopwright.models.signing import fingerprint, read_claim, signatures_in, verify_folder


def inspect_bundle(path: Path) -> Inspection:
    """What a bundle in a folder or archive says of itself. It is verified, and nothing in it is loaded.

    Raises:
        NotFound: there is no bundle at the path.
        Corrupt: it is damaged.
    """
    with opened_bundle(path) as bundle:
        held = _needed(bundle, path)
        names = (MANIFEST_FILE, *sorted(held.manifest.files))
        files = [(name, held.folder / name) for name in names]
        return Inspection(
            version=None,
            manifest=held.manifest,
            files=tuple(HeldFile(name, file.stat().st_size, digest_file(file)) for name, file in files),
            signatures=_vouched(held, ()),
            scan=scan(held.folder),
        )


def vouch_for_bundle(path: Path, keys: Sequence[str] = ()) -> Vouch:
    """Read every byte of a bundle in a folder or archive, and verify the signatures that it brings.

    Args:
        path: the folder or archive.
        keys: public keys in PEM, one of which must have signed it; none need have, without any.

    Raises:
        NotFound: there is no bundle at the path.
        Corrupt: a byte is not what was built, or what a key signed.
    """
    with opened_bundle(path) as bundle:
        held = _needed(bundle, path)
        count = len(held.manifest.files) + 1
        return Vouch("", "", count, held.size_bytes, _vouched(held, keys), required=bool(keys))


def _needed(bundle: Bundle | None, path: Path) -> Bundle:
    if bundle is None:
        raise NotFound(f"there is no bundle in {path}", next_step=f"a bundle's folder or zip holds {MANIFEST_FILE}")
    return bundle


def _vouched(held: Bundle, keys: Sequence[str]) -> tuple[Vouched, ...]:
    """Each signature, verified with the key that is asked for, else with the one that it brings."""
    asked = {fingerprint(key): key for key in keys}
    found = []
    for data, brought in signatures_in(held.folder):
        claimed = read_claim(data).key
        key = asked.get(claimed, brought)
        if key:
            verify_folder(held.folder, data, key)
        found.append(Vouched(claimed, claimed in asked))
    return tuple(found)
