"""A workspace on a server as the receiver of what a spool holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from loopwright.server.client import RemoteWorkspace
from loopwright.track import FileKept, Outcome, SpoolBatch

OCTETS = "application/octet-stream"
DELIVER_PATH = "/api/v1/spools/deliver"
FILE_PATH = "/api/v1/spools/keep_file"
_CHUNK_BYTES = 1 << 20


class RemoteTarget:
    """Posts batches to a server. Used by one thread."""

    def __init__(self, url: str, token: str | None, project: str | None) -> None:
        """Raises:
        Invalid: the address is none, or the token would travel in clear text.
        """
        self._workspace = RemoteWorkspace(url, token=token, project=project)
        self._encoder = msgspec.msgpack.Encoder()

    def deliver(self, batch: SpoolBatch) -> Outcome:
        """Apply a batch there."""
        found: Outcome = self._workspace.post(DELIVER_PATH, self._encoder.encode(batch), OCTETS, Outcome)
        return found

    def keep_file(self, note: FileKept, file: Path) -> None:
        """Send a file, in pieces."""
        self._workspace.post(FILE_PATH, _pieces(file), OCTETS, None, {"run": note.run, "path": note.path})

    def close(self) -> None:
        """Close the connections."""
        self._workspace.close()


def _pieces(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while piece := stream.read(_CHUNK_BYTES):
            yield piece
