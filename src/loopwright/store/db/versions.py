"""Which schema revisions this code knows: found by listing the migration packages, without loading them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import msgspec

from loopwright.core import Invalid, digest_value

STORE_MIGRATIONS = "loopwright.store.migrations"


class Versions(msgspec.Struct, frozen=True):
    """The folders that hold revisions, and a fingerprint of all revisions in them.

    The fingerprint of a database that is up to date equals ours, and then nothing else needs to be looked at.
    """

    folders: tuple[Path, ...]
    fingerprint: str


def known_versions(packages: Sequence[str]) -> Versions:
    """The revisions in these packages and in the store's own.

    Raises:
        Invalid: a package does not exist.
    """
    named = sorted({STORE_MIGRATIONS, *packages})
    folders = tuple(_folder(name) for name in named)
    revisions = {
        name: sorted(file.name for file in folder.glob("[0-9]*.py"))
        for name, folder in zip(named, folders, strict=True)
    }
    return Versions(folders, digest_value(revisions))


def _folder(package: str) -> Path:
    try:
        spec = find_spec(package)
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.origin is None:
        raise Invalid(f"there is no migration package {package!r}", next_step="check its name and its __init__.py")
    return Path(spec.origin).parent
