"""One door to a workspace, wherever it is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from loopwright.core import Invalid
from loopwright.server.client import RemoteWorkspace
from loopwright.workspace import open_workspace

if TYPE_CHECKING:
    from loopwright.workspace import Workspace


def connect(
    where: str | Path | None = None, *, project: str | None = None, token: str | None = None
) -> Workspace | RemoteWorkspace:
    """Open a workspace: a folder on this machine, or a server's address with the same services behind it.

    Args:
        where: a folder or an `https://` address; by default `LOOPWRIGHT_WORKSPACE`, else the nearest `loopwright.toml`
            upwards, else the present folder.
        project: the project inside it; by default the one that its settings name.
        token: the bearer token for a server; by default `LOOPWRIGHT_TOKEN`.

    Raises:
        Invalid: the settings or the address are malformed.
        Unavailable: a store cannot be reached or written.
        Conflict: the workspace was made by a newer Loopwright.
    """
    given = str(where) if where is not None else os.environ.get("LOOPWRIGHT_WORKSPACE", "")
    if "://" in given:
        return RemoteWorkspace(given, token=token or os.environ.get("LOOPWRIGHT_TOKEN"), project=project)
    if token is not None:
        raise Invalid("a token is for a server's address", next_step="leave it out for a local workspace")
    return open_workspace(where, project=project)
