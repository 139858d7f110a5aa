"""What a page shows of a file: a picture, a sound, the head of a table, text. Everything is bounded, nothing is run."""

from __future__ import annotations

import io
import mimetypes
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import msgspec

_HEAD_BYTES = 256 << 10
_JSON_BYTES = 2 << 20
_WHOLE_BYTES = 32 << 20
_ROWS, _COLUMNS = 100, 60
_IMAGES = frozenset({".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg", ".bmp"})
_SOUNDS = frozenset({".wav", ".mp3", ".ogg", ".flac", ".m4a"})
_PLAYED = "audio/"

Read = Callable[[int], bytes]


class Preview(msgspec.Struct, frozen=True):
    """What can be shown of a file.

    kind: `image`, `audio`, `table`, `markdown`, `text`, or `none`, of which `note` says why.
    note: what is left out, in words.
    """

    kind: str
    note: str = ""
    text: str = ""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()


def preview_of(path: str, size_bytes: int, read: Read) -> Preview:
    """What to show of a file.

    Args:
        path: its name tells its kind.
        read: gives at most so many of its first bytes.
    """
    suffix = PurePosixPath(path).suffix.lower()
    if suffix in _IMAGES or suffix in _SOUNDS:
        if size_bytes > _WHOLE_BYTES:
            return _too_large()
        return Preview("image" if suffix in _IMAGES else "audio")
    reader = _TABLES.get(suffix)
    if reader is not None:
        return _tabled(reader, size_bytes, read)
    head = read(_HEAD_BYTES)
    if b"\x00" in head:
        return Preview("none", "This is no text; download it to look at it.")
    if suffix in (".md", ".markdown"):
        return Preview("markdown", _cut(size_bytes), _text(head))
    return Preview("text", _cut(size_bytes), _text(head))


def inert_type(name: str) -> str:
    """The type that a file is sent as for a page to show: pictures and sounds by name, all else as plain bytes."""
    guessed = mimetypes.guess_type(name)[0] or ""
    shown = PurePosixPath(name).suffix.lower() in _IMAGES or guessed.startswith(_PLAYED)
    return guessed if shown and guessed else "application/octet-stream"


def _tabled(reader: Callable[[int, Read], Preview], size_bytes: int, read: Read) -> Preview:
    import polars

    try:
        return reader(size_bytes, read)
    except (polars.exceptions.PolarsError, msgspec.DecodeError, UnicodeDecodeError, ValueError, OSError):
        head = read(_HEAD_BYTES)
        if b"\x00" in head:
            return Preview("none", "Its name says that it is a table, but it cannot be read as one.")
        return Preview("text", "Its name says that it is a table, but it cannot be read as one.", _text(head))


def _csv(separator: str) -> Callable[[int, Read], Preview]:
    def read_head(size_bytes: int, read: Read) -> Preview:
        import polars

        head = read(_HEAD_BYTES)
        if size_bytes > len(head):
            head = head[: head.rfind(b"\n") + 1] or head
        frame = polars.read_csv(
            head,
            separator=separator,
            n_rows=_ROWS + 1,
            infer_schema=False,
            truncate_ragged_lines=True,
            ignore_errors=True,
        )
        return _frame(frame, more=frame.height > _ROWS or size_bytes > len(head))

    return read_head


def _parquet(size_bytes: int, read: Read) -> Preview:
    import polars

    if size_bytes > _WHOLE_BYTES:
        return _too_large()
    file = io.BytesIO(read(_WHOLE_BYTES))
    total = polars.scan_parquet(file).select(polars.len()).collect().item()
    file.seek(0)
    return _frame(polars.read_parquet(file, n_rows=_ROWS + 1), more=total > _ROWS, total=total)


def _json_lines(size_bytes: int, read: Read) -> Preview:
    head = read(_HEAD_BYTES)
    lines = head.decode(errors="replace").splitlines()
    whole = lines if size_bytes <= len(head) else lines[:-1]
    rows = [msgspec.json.decode(line) for line in whole[: _ROWS + 1] if line.strip()]
    found = _records(rows)
    return found or Preview("text", _cut(size_bytes), _text(head))


def _json(size_bytes: int, read: Read) -> Preview:
    if size_bytes > _JSON_BYTES:
        return Preview("text", _cut(size_bytes), _text(read(_HEAD_BYTES)))
    data = read(_JSON_BYTES)
    found = msgspec.json.decode(data)
    if isinstance(found, dict) and isinstance(found.get("columns"), list) and isinstance(found.get("data"), list):
        table = _split(found["columns"], found["data"])
        if table:
            return table
    table = _records(found) if isinstance(found, list) else None
    return table or Preview("text", "", msgspec.json.format(data, indent=2).decode(errors="replace"))


def _split(columns: list[Any], rows: list[Any]) -> Preview | None:
    """The form in which pandas and MLflow write tables: names of columns, and a list per row."""
    if not all(isinstance(row, list) and len(row) == len(columns) for row in rows[: _ROWS + 1]):
        return None
    return _table([str(name) for name in columns], rows, len(rows))


def _records(rows: list[Any]) -> Preview | None:
    if not rows or not all(isinstance(row, Mapping) for row in rows[: _ROWS + 1]):
        return None
    columns = list(dict.fromkeys(str(key) for row in rows[:_ROWS] for key in row))
    return _table(columns, [[row.get(name) for name in columns] for row in rows[: _ROWS + 1]], len(rows))


def _frame(frame: Any, *, more: bool, total: int | None = None) -> Preview:
    note = f"The first {_ROWS} of {total:,} rows." if more and total else f"The first {_ROWS} rows." if more else ""
    return _bounded(frame.columns, frame.head(_ROWS).rows(), note)


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]], total: int) -> Preview:
    return _bounded(columns, rows[:_ROWS], f"The first {_ROWS} rows." if total > _ROWS else "")


def _bounded(columns: Sequence[str], rows: Sequence[Sequence[Any]], note: str) -> Preview:
    if len(columns) > _COLUMNS:
        note = f"{note} {_COLUMNS} of {len(columns)} columns.".strip()
    cells = tuple(tuple(_cell(value) for value in row[:_COLUMNS]) for row in rows)
    return Preview("table", note, columns=tuple(columns[:_COLUMNS]), rows=cells)


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= 300 else f"{text[:299]}…"


def _text(head: bytes) -> str:
    return head.decode(errors="replace")


def _cut(size_bytes: int) -> str:
    return f"The first {_HEAD_BYTES >> 10} KiB." if size_bytes > _HEAD_BYTES else ""


def _too_large() -> Preview:
    return Preview("none", f"Files of more than {_WHOLE_BYTES >> 20} MiB are not shown; download it to look at it.")


_TABLES: dict[str, Callable[[int, Read], Preview]] = {
    ".csv": _csv(","),
    ".tsv": _csv("\t"),
    ".parquet": _parquet,
    ".json": _json,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
}
