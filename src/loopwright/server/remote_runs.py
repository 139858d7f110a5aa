"""Runs of a workspace on a server, with what goes beyond operations: their files, up and down."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from loopwright.core import Corrupt, Invalid, Unavailable, check_path
from loopwright.server.files import OCTETS, PATH
from loopwright.server.remote_service import Line, RemoteService
from loopwright.track import Artifact, files_to_keep

_CHUNK_BYTES = 1 << 20
_IN_MEMORY_BYTES = 8 << 20
_ATTEMPTS = 5
_PAUSE_S = 0.2
_ETAG = re.compile(r'"([0-9a-f]{64})"')


class RemoteRuns(RemoteService):
    """`RunService` behind a server."""

    def log_artifact(self, run: str, source: Path | str | bytes, name: str = "") -> list[Artifact]:
        """Keep a file, a folder or bytes with a run, as `RunService.log_artifact` does; files are sent in pieces.

        Raises:
            NotFound: there is no such run or file.
            Invalid: the name is no safe path.
            Unavailable: the server does not answer.
        """
        if isinstance(source, bytes):
            if not name:
                raise Invalid("an artifact made of bytes needs a name", next_step="give its path in the run")
            return [self._send(run, check_path(name), source)]
        kept = Path(source)
        found = list(files_to_keep(kept, name or kept.resolve().name))
        return [self._send(run, path, _pieces(file)) for file, path in found]

    def artifact(self, run: str, path: str) -> bytes:
        """The bytes of one artifact. Raises as `open_artifact` does."""
        with self.open_artifact(run, path) as stream:
            return stream.read()

    def open_artifact(self, run: str, path: str) -> BinaryIO:
        """One artifact as a stream, which the caller closes; fetched whole and verified before it is given.

        A connection that breaks is taken up again where it broke.

        Raises:
            NotFound: there is no such run or artifact.
            Corrupt: the bytes are not those that were kept.
            Unavailable: the server does not answer, or breaks off again and again.
        """
        target: Any = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115  the caller closes it
        try:
            Fetch(self._workspace, _address(run, path), target).whole()
        except BaseException:
            target.close()
            raise
        target.seek(0)
        found: BinaryIO = target
        return found

    def _send(self, run: str, path: str, content: bytes | Iterator[bytes]) -> Artifact:
        made: Artifact = self._workspace.post(_address(run, path), content, OCTETS, Artifact)
        return made


class Fetch:
    """A file on its way from a server; a connection that breaks is taken up again where it broke."""

    def __init__(self, workspace: Line, address: str, target: BinaryIO) -> None:
        from blake3 import blake3

        self._workspace, self._address, self._target = workspace, address, target
        self._hasher, self._etag = blake3(), ""

    def whole(self) -> str:
        """Fetch and verify it; its digest. Raises as `RemoteRuns.open_artifact` does."""
        for attempt in range(_ATTEMPTS):
            try:
                self._go_on()
                break
            except Unavailable:
                if attempt + 1 == _ATTEMPTS:
                    raise
                time.sleep(_PAUSE_S * 2**attempt)
        match = _ETAG.fullmatch(self._etag)
        if match is None or self._hasher.hexdigest() != match[1]:
            raise Corrupt(
                f"{self._address} arrived otherwise than it was kept",
                next_step="fetch it again; run loopwright fsck there",
            )
        return match[1]

    def _go_on(self) -> None:
        done = self._target.tell()
        headers = {"Range": f"bytes={done}-", "If-Range": self._etag} if done else {}
        with self._workspace.stream(self._address, headers) as answer:
            if answer.status_code != 206:  # the first time, or it was replaced meanwhile
                self._target.seek(0)
                self._target.truncate()
                self._hasher.reset()
            self._etag = answer.headers.get("etag", "")
            for piece in answer.iter_raw():
                self._target.write(piece)
                self._hasher.update(piece)


def _address(run: str, path: str) -> str:
    owner = run if run.startswith("run:") else f"run:{run}"
    return f"{PATH}/{quote(owner, safe=':')}/{quote(path)}"


def _pieces(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while piece := stream.read(_CHUNK_BYTES):
            yield piece
