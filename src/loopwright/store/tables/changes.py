"""Which files hold the rows that were added between two versions: read from the log, so older rows cost nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import msgspec

from loopwright.core import Corrupt

_decode = msgspec.json.Decoder(dict[str, Any]).decode


def added_files(key: str, entry: Callable[[int], bytes | None], since: int, version: int) -> list[str] | None:
    """The data files that commits after `since`, up to `version`, added; relative to the table.

    Commits that only rearrange rows (compaction) do not count.

    Args:
        entry: the bytes of one commit in the log; None if it was cleaned away.

    Returns:
        None where the answer is not a set of whole files: rows were removed or changed in between, the columns changed,
        the table is partitioned, or the log no longer reaches back.

    Raises:
        Corrupt: a commit cannot be understood.
    """
    files: list[str] = []
    for number in range(since + 1, version + 1):
        commit = entry(number)
        if commit is None:
            return None
        try:
            actions = [_decode(line) for line in commit.splitlines() if line]
        except msgspec.DecodeError as error:
            raise Corrupt(f"commit {number} of the table {key!r} cannot be read: {error}") from None
        found = _added(actions)
        if found is None:
            return None
        files += found
    return files


def _added(actions: list[dict[str, Any]]) -> list[str] | None:
    files: list[str] = []
    for action in actions:
        removed, added = action.get("remove"), action.get("add")
        if "metaData" in action or (removed is not None and removed.get("dataChange", True)):
            return None
        if added is None or not added.get("dataChange", True):
            continue
        if added.get("partitionValues") or added.get("deletionVector"):
            return None
        files.append(unquote(added["path"]))
    return files
