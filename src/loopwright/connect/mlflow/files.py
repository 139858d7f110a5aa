"""The files below an artifact location: a folder of this machine, or an object store that fsspec reaches."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from loopwright.connect.mlflow.mapping import shown_address
from loopwright.connect.mlflow.model import FileEntry, Files
from loopwright.core import Invalid, NotFound, Unavailable
from loopwright.store import Readable

_REMOTE = {"s3": "s3", "s3a": "s3", "gs": "gs", "abfs": "abfs", "abfss": "abfss", "az": "az", "sftp": "sftp"}
_PROXY = "mlflow-artifacts"


def open_files(uri: str, artifacts: str = "", base: Path = Path()) -> Files:
    """The files below an artifact location.

    Args:
        artifacts: the folder or address of what MLflow calls `mlflow-artifacts:/`.
        base: where relative paths begin, if they lead nowhere from here.

    Raises:
        Unavailable: that place cannot be reached from here.
        Invalid: the location is of a kind that is unknown.
    """
    parsed = urlsplit(uri)
    if parsed.scheme == _PROXY:
        if not artifacts:
            raise Unavailable(
                "its files are behind MLflow's server", next_step="give --artifacts, the server's artifacts destination"
            )
        return open_files(f"{artifacts.rstrip('/')}/{parsed.path.strip('/')}", "", base)
    if parsed.scheme in ("", "file"):
        return FolderFiles(_folder(unquote(parsed.path) if parsed.scheme else uri, base))
    if parsed.scheme in _REMOTE:
        return RemoteFiles(_REMOTE[parsed.scheme], f"{parsed.netloc}{parsed.path}", shown_address(uri))
    raise Invalid(f"files at {parsed.scheme}: are read by no part of this", next_step="import from MLflow's server")


def _folder(path: str, base: Path) -> Path:
    folder = Path(path)
    return base / folder if not folder.is_absolute() and not folder.exists() else folder


class FolderFiles:
    """A folder. Links that lead out of it are not followed."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def walk(self) -> Iterator[FileEntry]:
        """All files, by path."""
        for folder, folders, names in os.walk(self._root):
            folders.sort()
            for name in sorted(names):
                file = Path(folder, name)
                if self._is_inside(file):
                    stat = file.stat()
                    path = file.relative_to(self._root).as_posix()
                    yield FileEntry(path, stat.st_size, stat.st_mtime_ns // 1_000_000)

    @contextmanager
    def open(self, path: str) -> Iterator[Readable]:
        """One file as a stream."""
        file = self._root / path
        if not self._is_inside(file):
            raise NotFound(f"there is no file {path!r}")
        with file.open("rb") as stream:
            yield stream

    def _is_inside(self, file: Path) -> bool:
        return file.is_file() and (not file.is_symlink() or file.resolve().is_relative_to(self._root.resolve()))


class RemoteFiles:
    """An object store. Credentials are those of its own library: environment, profiles, instance roles."""

    def __init__(self, protocol: str, root: str, shown: str) -> None:
        import fsspec

        self._root, self._shown = root.rstrip("/"), shown
        try:
            self._fs: Any = fsspec.filesystem(protocol)
        except (ImportError, ValueError) as error:
            raise Unavailable(f"files at {shown} need a library: {error}") from None

    def walk(self) -> Iterator[FileEntry]:
        """All files, by path."""
        try:
            found = self._fs.find(self._root, detail=True)
        except FileNotFoundError:
            return
        except Exception as error:  # each store has errors of its own; all mean that it cannot be read
            raise Unavailable(f"{self._shown} cannot be listed: {error}") from error
        for path, about in sorted(found.items()):
            modified = about.get("LastModified") or about.get("mtime") or about.get("updated")
            millis = int(modified.timestamp() * 1000) if hasattr(modified, "timestamp") else 0
            yield FileEntry(path[len(self._root) :].strip("/"), int(about.get("size") or 0), millis)

    def open(self, path: str) -> AbstractContextManager[Readable]:
        """One file as a stream."""
        try:
            opened: AbstractContextManager[Readable] = self._fs.open(f"{self._root}/{path}", "rb")
        except FileNotFoundError:
            raise NotFound(f"there is no file {path!r} at {self._shown}") from None
        except Exception as error:  # as above
            raise Unavailable(f"{self._shown}/{path} cannot be read: {error}") from error
        return opened
