"""Bundles as one file: a zip that is written as a stream and read member by member (DESIGN §7 rule 5)."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO, BinaryIO

from loopwright.core import Corrupt, Invalid, check_path
from loopwright.models.predictor import MANIFEST_FILE

MAX_FILES = 20_000
MAX_BYTES = 256 << 30
MAX_RATIO = 300
_SMALL_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)


def is_archive(path: Path) -> bool:
    """Whether a file is a zip with a bundle in it."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return MANIFEST_FILE in archive.namelist()


def pack(files: Iterable[tuple[str, BinaryIO, int]], target: BinaryIO) -> None:
    """Write files as a zip, one after the other; the same files give the same bytes.

    Args:
        files: path, stream that stands at the first byte, and size of each; the streams are closed.
        target: what is written to; it need not be able to seek.
    """
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path, stream, size in files:
            info = zipfile.ZipInfo(check_path(path), _EPOCH)
            # Weights hardly shrink, and what shrinks beyond MAX_RATIO could not be read again.
            info.compress_type = zipfile.ZIP_DEFLATED if size <= _SMALL_BYTES else zipfile.ZIP_STORED
            info.external_attr = 0o644 << 16
            info.file_size = size
            with stream, archive.open(info, "w", force_zip64=size > 1 << 30) as member:
                left = size
                while left and (chunk := stream.read(min(_CHUNK_BYTES, left))):
                    member.write(chunk)
                    left -= len(chunk)
            if left:
                raise Corrupt(f"the file {path!r} ends {left:,} bytes before its size says so")


def unpack(source: Path | BinaryIO, folder: Path, max_bytes: int = MAX_BYTES) -> None:
    """Write the files of a zip into a new folder, each at a checked path and within bounds.

    Raises:
        Invalid: it is no zip, or holds a path that leaves the folder, a link, a file twice, an encrypted file, or more
            files or bytes than any bundle has.
        Corrupt: a file in it is damaged.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
            _check_members(members, max_bytes)
            for info in members:
                path = folder / info.filename
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(info) as stream, path.open("xb") as target:
                    _copy(stream, target, info)
    except zipfile.BadZipFile as error:
        raise Corrupt(f"the archive is damaged, or no zip: {error}", next_step="fetch or export it again") from error
    except (zlib.error, EOFError, ValueError) as error:  # the last: a place before the beginning, a name in no code
        raise Corrupt(f"a file in the archive is damaged: {error}", next_step="fetch or export it again") from error
    except NotImplementedError as error:
        raise Invalid(f"the archive is compressed in a way that is not read: {error}") from error


def _check_members(members: list[zipfile.ZipInfo], max_bytes: int) -> None:
    if len(members) > MAX_FILES:
        raise Invalid(f"the archive has {len(members):,} files; a bundle has at most {MAX_FILES:,}")
    names = [check_path(info.filename) for info in members]
    if len({name.casefold() for name in names}) < len(names):
        raise Invalid("the archive has a file twice")
    for info in members:
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise Invalid(f"{info.filename!r} in the archive is a link or a device")
        if info.flag_bits & 0x1:
            raise Invalid(f"{info.filename!r} in the archive is encrypted", next_step="make it without a password")
        if info.file_size > max(_SMALL_BYTES, MAX_RATIO * info.compress_size):
            raise Invalid(f"{info.filename!r} in the archive swells to more than {MAX_RATIO} times its size")
    total = sum(info.file_size for info in members)
    if total > max_bytes:
        raise Invalid(f"the archive unpacks to {total:,} bytes; at most {max_bytes:,} are read")


def _copy(stream: IO[bytes], target: BinaryIO, info: zipfile.ZipInfo) -> None:
    """At most what the archive's list promised: a member that gives more is damaged, or lies."""
    left = info.file_size
    while chunk := stream.read(_CHUNK_BYTES):
        left -= len(chunk)
        if left < 0:
            raise Corrupt(f"{info.filename!r} in the archive is longer than it says")
        target.write(chunk)
