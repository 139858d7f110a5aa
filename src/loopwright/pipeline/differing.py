"""What differs in the code and the environment of two runs, from what they captured."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from loopwright.core import decode
from loopwright.pipeline.environment import Environment
from loopwright.pipeline.model import Capture, CodeDifference, FileDifference, PipelineRecord
from loopwright.store import ObjectStore, TreeEntry, read_file, read_tree

_MAX_FILE_BYTES = 256 << 10
_MAX_LINES = 400
_MAX_FILES = 200
_CONTEXT_LINES = 3


def code_difference(
    objects: ObjectStore, first: PipelineRecord | None, second: PipelineRecord | None
) -> CodeDifference | None:
    """What changed from the first run to the second; None where one of them captured nothing."""
    if first is None or second is None or first.capture is None or second.capture is None:
        return None
    before, after = first.capture, second.capture
    return CodeDifference(
        commits=(before.git_commit, after.git_commit),
        uncommitted=(before.git_dirty, after.git_dirty),
        files=_files(objects, before, after),
        packages=_changed(_environment(objects, before).packages, _environment(objects, after).packages),
        settings=_changed(_settings(before), _settings(after)),
        inputs=_changed(first.inputs, second.inputs),
    )


def _files(objects: ObjectStore, before: Capture, after: Capture) -> tuple[FileDifference, ...]:
    if before.code == after.code:
        return ()
    old, new = _entries(objects, before.code), _entries(objects, after.code)
    changed = [
        path
        for path in sorted(old.keys() | new.keys())
        if path not in old or path not in new or old[path].digest != new[path].digest
    ]
    return tuple(
        _file(objects, (before.code, after.code), path, old.get(path), new.get(path)) for path in changed[:_MAX_FILES]
    )


def _entries(objects: ObjectStore, tree: str) -> dict[str, TreeEntry]:
    return {entry.path: entry for entry in read_tree(objects, tree).entries} if tree else {}


def _file(
    objects: ObjectStore, trees: tuple[str, str], path: str, old: TreeEntry | None, new: TreeEntry | None
) -> FileDifference:
    change = "added" if old is None else "removed" if new is None else "changed"
    before, after = _lines(objects, trees[0], old), _lines(objects, trees[1], new)
    if before is None or after is None:
        return FileDifference(path, change, "", whole=False)
    lines = list(difflib.unified_diff(before, after, path, path, n=_CONTEXT_LINES, lineterm=""))
    return FileDifference(path, change, "\n".join(lines[:_MAX_LINES]), whole=len(lines) <= _MAX_LINES)


def _lines(objects: ObjectStore, tree: str, entry: TreeEntry | None) -> list[str] | None:
    """A file's lines; None if it is too large to be shown, or no text."""
    if entry is None:
        return []
    if entry.size_bytes > _MAX_FILE_BYTES:
        return None
    try:
        return read_file(objects, tree, entry.path).decode().splitlines()
    except UnicodeDecodeError:
        return None


def _environment(objects: ObjectStore, capture: Capture) -> Environment:
    if not capture.environment:
        return Environment("", "", "", "", {})
    found: Environment = decode(objects.get(capture.environment), Environment)
    return found


def _settings(capture: Capture) -> dict[str, str]:
    return {
        "python": capture.python,
        "loopwright": capture.loopwright,
        "seed": str(capture.seed),
        "hardware": str(capture.hardware),
        "uncommitted changes": capture.git_diff[:12],
    }


def _changed(before: Mapping[str, object], after: Mapping[str, object]) -> dict[str, tuple[str, str]]:
    """By name what was and what is, where they differ; an empty text where there is none."""
    names = sorted(before.keys() | after.keys())
    pairs = {name: (str(before.get(name, "")), str(after.get(name, ""))) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
