"""A bundle in a folder, named on the command line in place of a registered model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from loopwright.cli.command import Session
from loopwright.core import locate

if TYPE_CHECKING:
    from loopwright.models import Bundle


def is_bundle(folder: Path) -> bool:
    """Whether a path is a bundle's folder."""
    return (folder / "bundle.json").is_file()


def bundle_in(session: Session, folder: Path) -> Bundle:
    """The bundle in a folder, whole, and signed where the settings of the workspace, or of the place, ask for that.

    Raises:
        Corrupt: a byte is not what was built, or not what a trusted key signed.
        Conflict: a signature is required, and none is of a trusted key.
    """
    from loopwright.models import bundle_in as found_in
    from loopwright.models import trust_of

    location = locate(session.where if session.where and "://" not in session.where else None)
    trust = trust_of(location.settings.require_signed, location.settings.trusted_keys, location.root)
    return found_in(folder, trust)
