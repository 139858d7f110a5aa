"""Packed files: read member by member, with bounds on names, sizes and ratio; none is written by its own path."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from loopwright.core import Invalid, check_path

_CHUNK = 1 << 20
_MAX_RATIO = 1000
_FREE_BYTES = 256 << 20  # below this size the ratio does not matter
_MAX_MEMBERS = 100_000


def unpack_gzip(path: Path, shown: str, target: Path) -> None:
    """Unpack one gzipped file.

    Raises:
        Invalid: it is damaged or cut short, or grows beyond all measure.
    """
    try:
        with gzip.open(path, "rb") as packed, target.open("wb") as out:
            _copy(packed, out, path.stat().st_size, shown)  # type: ignore[arg-type]  # GzipFile reads like any other
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise Invalid(f"damaged gzip: {error}", where=shown, next_step="check it with: gzip -t FILE") from None


def unpack_zip(path: Path, shown: str, folder: Path) -> Iterator[tuple[Path, str]]:
    """Unpack the files of a zip into `folder`, each under a number of its own; gives the file and its name in the zip.

    Raises:
        Invalid: it is damaged, encrypted, holds a link or an unsafe name, or grows beyond all measure.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [
                member for member in archive.infolist() if not member.is_dir() and not _is_litter(member.filename)
            ]
            if len(members) > _MAX_MEMBERS:
                raise Invalid(f"the archive has {len(members)} files; at most {_MAX_MEMBERS} are read", where=shown)
            for number, member in enumerate(members):
                inner = f"{shown}:{member.filename}"
                _check_member(member, inner)
                target = folder / f"{number}{Path(member.filename).suffix}"
                with archive.open(member) as packed, target.open("wb") as out:
                    _copy(packed, out, max(member.compress_size, 1), inner)  # type: ignore[arg-type]  # as above
                yield target, member.filename
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise Invalid(f"damaged zip: {error}", where=shown, next_step="check it with: unzip -t FILE") from None


def _check_member(member: zipfile.ZipInfo, shown: str) -> None:
    check_path(member.filename)
    if member.flag_bits & 0x1:
        raise Invalid("the file is encrypted", where=shown, next_step="unpack it first")
    if (member.external_attr >> 16) & 0o170000 == 0o120000:
        raise Invalid("the archive holds a link", where=shown, next_step="pack plain files only")


def _is_litter(name: str) -> bool:
    return name.startswith("__MACOSX/") or name.rpartition("/")[2] in {".DS_Store", "Thumbs.db"}


def _copy(packed: BinaryIO, out: BinaryIO, packed_bytes: int, shown: str) -> None:
    size = 0
    while chunk := packed.read(_CHUNK):
        size += len(chunk)
        if size > _FREE_BYTES and size > packed_bytes * _MAX_RATIO:
            raise Invalid(
                f"it grows to more than {_MAX_RATIO} times its {packed_bytes} packed bytes",
                where=shown,
                next_step="unpack it yourself if you trust it",
            )
        out.write(chunk)
