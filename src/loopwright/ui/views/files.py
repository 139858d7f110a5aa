"""The files of a run: a tree, a look at one of them, and downloads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from starlette.responses import Response, StreamingResponse

from loopwright.core import LoopwrightError
from loopwright.server import Call
from loopwright.track import Artifact, Entry
from loopwright.ui.page import View, attempt, download_headers
from loopwright.ui.previews import Preview, inert_type, preview_of
from loopwright.ui.views.run import shell_of

_CHUNK = 1 << 20
_MOST_ENTRIES = 500
_MOST_PICTURES = 60
_PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp")


async def files(call: Call) -> View:
    """The tree, open at the chosen path, and what can be shown of that: a file, or a folder's pictures."""
    found = await call.ask("runs.get", run=call.request.path_params["run"])
    path = call.request.query_params.get("path", "").strip("/")
    levels = [await _entries(call, found.id, folder) for folder in _folders(path)]
    chosen = next((entry for level in levels for entry in level if entry.path == path), None)
    file, shown, trouble = None, None, ""
    if path and (chosen is None or not chosen.is_folder):
        file, trouble = await attempt(call, "artifacts.stat", owner=f"run:{found.id}", path=path)
        shown = await _preview(call, found.id, file) if file else None
    values = {
        "run": found,
        "path": path,
        "tree": _tree(levels, path),
        "pictures": [] if file else _pictures(levels[-1]),
        "file": file,
        "preview": shown,
        "trouble": trouble,
        "most": _MOST_ENTRIES,
    }
    return shell_of(found, "run_files.html", values, scripts=("files.js",))


def _folders(path: str) -> list[str]:
    """The folders from the top to a path, and the path itself, which may be one."""
    parts = path.split("/") if path else []
    return ["", *("/".join(parts[: number + 1]) for number in range(len(parts)))]


async def _entries(call: Call, run: str, folder: str) -> list[Entry]:
    found, _ = await attempt(call, "artifacts.list", owner=f"run:{run}", folder=folder)
    return sorted(found or [], key=lambda entry: (not entry.is_folder, entry.path))


def _tree(levels: list[list[Entry]], path: str) -> list[dict[str, Any]]:
    """The rows of the tree, top down: the folders on the way to the path are open."""
    rows: list[dict[str, Any]] = []

    def add(depth: int) -> None:
        for entry in levels[depth][:_MOST_ENTRIES]:
            is_open = entry.is_folder and (path == entry.path or path.startswith(f"{entry.path}/"))
            rows.append({"entry": entry, "depth": depth, "open": is_open})
            if is_open and depth + 1 < len(levels):
                add(depth + 1)

    add(0)
    return rows


def _pictures(entries: list[Entry]) -> list[Entry]:
    pictures = [item for item in entries if not item.is_folder and item.path.lower().endswith(_PICTURES)]
    return pictures[:_MOST_PICTURES]


async def _preview(call: Call, run: str, file: Artifact) -> Preview:
    service = call.services.service("runs", call.scope)

    def read(limit: int) -> bytes:
        with service.open_artifact(run, file.path) as stream:
            data: bytes = stream.read(limit)
            return data

    found: Preview = await call.services.in_thread(lambda: preview_of(file.path, file.size_bytes, read))
    return found


async def download(call: Call) -> Response:
    """A file of a run, as a download that no browser interprets; a page may show it as a picture."""
    run_id, path = call.request.path_params["run"], call.request.path_params["path"]
    service = call.services.service("runs", call.scope)
    stream: BinaryIO = await call.services.in_thread(lambda: service.open_artifact(run_id, path))
    return StreamingResponse(_chunks(stream), headers=download_headers(path), media_type=inert_type(path))


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    try:
        with stream:
            while chunk := stream.read(_CHUNK):
                yield chunk
    except LoopwrightError:
        return
