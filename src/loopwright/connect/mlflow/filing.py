"""Carrying files: each is streamed into the object store; what is here at the same path and size stays."""

from __future__ import annotations

from loopwright.connect.mlflow.mapping import millis_of
from loopwright.connect.mlflow.model import FileEntry, Report, Source
from loopwright.core import LoopwrightError
from loopwright.workspace import Workspace


def carry_files(ws: Workspace, source: Source, owner: str, uri: str, report: Report) -> bool:
    """Carry all files of a run or logged model; whether none was left behind."""
    if not uri:
        return True
    whole = True
    try:
        files = source.files(owner, uri)
        for entry in files.walk():
            if _is_here(ws, owner, entry):
                report.already("files")
                continue
            try:
                with files.open(entry.path) as stream:
                    kept = ws.artifacts.store(owner, entry.path, stream)
            except (LoopwrightError, OSError) as error:
                report.omit(f"file {entry.path!r} of {owner}", error)
                whole = False
            else:
                report.count("files")
                report.bytes += kept.size_bytes
    except LoopwrightError as error:
        report.omit(f"files of {owner}", error)
        return False
    return whole


def count_files(source: Source, owner: str, uri: str, report: Report) -> None:
    """Count what `carry_files` would carry."""
    if not uri:
        return
    try:
        for entry in source.files(owner, uri).walk():
            report.count("files")
            report.bytes += entry.size_bytes
    except LoopwrightError as error:
        report.omit(f"files of {owner}", error)


def _is_here(ws: Workspace, owner: str, entry: FileEntry) -> bool:
    try:
        held = ws.artifacts.stat(owner, entry.path)
    except LoopwrightError:
        return False
    return held.size_bytes == entry.size_bytes and entry.modified_ms <= millis_of(held.created_at)
