"""Open the object store that a place names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from loopwright.store.objects.filesystems import is_url, scheme_of
from loopwright.store.objects.folder import FolderStore
from loopwright.store.objects.model import ObjectStore


def open_objects(place: str | Path, options: Mapping[str, str] | None = None) -> ObjectStore:
    """The object store at a place. Nothing is created before the first put.

    Args:
        place: a folder, a `file://` URL, `s3://bucket/prefix`, or another URL that fsspec knows.
        options: storage options for a URL; for S3 the names of AWS's variables (`AWS_ENDPOINT_URL`, ...).

    Raises:
        Invalid: an unknown scheme, an unknown option, or a library that is not installed.
    """
    text = str(place)
    if isinstance(place, Path) or not is_url(text):
        return FolderStore(Path(text))
    if scheme_of(text) == "file":
        return FolderStore(Path(unquote(urlsplit(text).path)))
    from loopwright.store.objects.remote import RemoteStore

    return RemoteStore(text, options)
