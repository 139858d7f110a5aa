"""Figures, tables, images, sound and texts as files of a run, in formats that anything can read."""

from __future__ import annotations

import io
import re
import sys
import wave
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from loopwright.core import Invalid, NotFound, missing_extra


class KeepsMedia:
    """What keeps files of these kinds; whoever has it knows how to keep bytes."""

    def log_artifact(self, source: Path | str | bytes, name: str = "") -> None:
        """Keep a file, a folder or bytes."""
        raise NotImplementedError

    def log_text(self, text: str, name: str, step: int | None = None) -> None:
        """Keep a text, at `name`, or with a step at `text/<name>/<step>.txt`."""
        self.log_artifact(text.encode(errors="replace"), media_path("text", name, ".txt", step))

    def log_figure(self, figure: Any, name: str, step: int | None = None) -> None:
        """Keep a figure of matplotlib as PNG, or of Plotly as JSON and as a page that stands by itself.

        Raises:
            Invalid: it is no figure of these libraries.
        """
        for suffix, data in figure_files(figure, PurePosixPath(name).suffix).items():
            self.log_artifact(data, media_path("figures", name, suffix, step))

    def log_table(self, table: Any, name: str, step: int | None = None) -> None:
        """Keep a table of Polars or pandas, or columns by name, as Parquet.

        Raises:
            Invalid: it is no table.
        """
        self.log_artifact(table_bytes(table), media_path("tables", name, ".parquet", step))

    def log_image(self, image: Any, name: str, step: int | None = None) -> None:
        """Keep an image of PIL or an array (height × width, or with 1, 3 or 4 channels; whole numbers of 0 to 255, or
        floats of 0 to 1) as PNG; or an image file as it is.

        Raises:
            Invalid: it is no image.
            NotFound: there is no such file.
        """
        suffix, data = _file_or(image, png_bytes, ".png")
        self.log_artifact(data, media_path("images", name, suffix, step))

    def log_audio(self, audio: Any, name: str, rate_hz: int = 44_100, step: int | None = None) -> None:
        """Keep sound (an array of samples, or of samples × channels; floats of -1 to 1, or 16-bit whole numbers) as
        WAV; or a sound file as it is.

        Raises:
            Invalid: it is no sound.
            NotFound: there is no such file.
        """
        suffix, data = _file_or(audio, lambda samples: wav_bytes(samples, rate_hz), ".wav")
        self.log_artifact(data, media_path("audio", name, suffix, step))


def media_path(folder: str, name: str, suffix: str, step: int | None) -> str:
    """Where a file of a run goes: at its name, with the suffix if it has none; with a step, one of a row of files.

    Steps have as many digits as make them sort.
    """
    stem = name[: -len(suffix)] if name.endswith(suffix) else name
    if step is None:
        return name if PurePosixPath(name).suffix else f"{name}{suffix}"
    return f"{folder}/{stem}/{step:08d}{suffix}"


def figure_files(figure: Any, wanted: str) -> dict[str, bytes]:
    """A figure's files, by suffix; only the wanted one, where it is named."""
    kind = type(figure).__module__.partition(".")[0]
    if kind == "plotly" and hasattr(figure, "to_json"):
        page = figure.to_html(include_plotlyjs=True, full_html=True) if wanted != ".json" else ""
        files = {".json": figure.to_json().encode(), ".html": page.encode()}
        return {wanted: files[wanted]} if wanted in files else files
    figure = getattr(figure, "figure", figure)  # an Axes knows its figure
    if not hasattr(figure, "savefig"):
        raise Invalid(
            f"a {type(figure).__name__} is no figure",
            next_step="give a figure of matplotlib or Plotly, or log_artifact",
        )
    suffix = wanted if wanted in (".png", ".svg", ".pdf", ".jpg") else ".png"
    buffer = io.BytesIO()
    figure.savefig(buffer, format=suffix[1:], bbox_inches="tight")
    return {suffix: buffer.getvalue()}


def table_bytes(table: Any) -> bytes:
    """A table as Parquet.

    Raises:
        Invalid: it is no table.
    """
    import polars

    pandas = sys.modules.get("pandas")
    try:
        if isinstance(table, polars.LazyFrame):
            table = table.collect()
        if pandas is not None and isinstance(table, pandas.DataFrame):
            table = polars.from_pandas(table)
        frame = table if isinstance(table, polars.DataFrame) else _from_columns(table)
    except (TypeError, ValueError, polars.exceptions.PolarsError) as error:
        raise Invalid(f"this is no table: {error}", next_step="give a data frame, or a list for each column") from None
    except ImportError:
        raise missing_extra("pyarrow", "pandas", "keeping a pandas table") from None
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def _from_columns(table: Any) -> Any:
    import polars

    if isinstance(table, Mapping):
        return polars.DataFrame(dict(table))
    if isinstance(table, list) and all(isinstance(row, Mapping) for row in table):
        return polars.DataFrame(table)
    raise TypeError(f"a {type(table).__name__} has no columns")


def png_bytes(image: Any) -> bytes:
    """An image as PNG.

    Raises:
        Invalid: it is none.
    """
    if hasattr(image, "save") and hasattr(image, "getbands"):
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
        return buffer.getvalue()
    import numpy as np

    pixels = np.asarray(image)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim not in (2, 3) or 0 in pixels.shape or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)):
        raise Invalid(
            f"an array of the shape {pixels.shape} is no image",
            next_step="give height × width, or height × width × 3 (RGB) or 4 (RGBA)",
        )
    if pixels.dtype.kind == "f":
        pixels = np.nan_to_num(pixels).clip(0.0, 1.0) * 255.0 + 0.5
    elif pixels.dtype.kind == "b":
        pixels = pixels * 255
    elif pixels.dtype.kind not in "iu":
        raise Invalid(f"an array of {pixels.dtype} is no image", next_step="give whole numbers, or floats of 0 to 1")
    return _png(pixels.clip(0, 255).astype(np.uint8))


def _png(pixels: Any) -> bytes:
    """PNG (ISO/IEC 15948), 8 bits a channel, unfiltered rows."""
    import struct
    import zlib

    import numpy as np

    height, width = pixels.shape[:2]
    colour = {2: 0}.get(pixels.ndim) or {3: 2, 4: 6}.get(pixels.shape[-1] if pixels.ndim == 3 else 0, 0)
    rows = np.zeros((height, 1 + pixels[0].size), np.uint8)
    rows[:, 1:] = pixels.reshape(height, -1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    body = zlib.compress(rows.tobytes(), 6)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def wav_bytes(audio: Any, rate_hz: int) -> bytes:
    """Sound as WAV: 16-bit PCM.

    Raises:
        Invalid: it is none.
    """
    import numpy as np

    samples = np.asarray(audio)
    if samples.ndim not in (1, 2) or not samples.size or (samples.ndim == 2 and samples.shape[1] > 8):
        raise Invalid(
            f"an array of the shape {samples.shape} is no sound", next_step="give samples, or samples × channels"
        )
    if samples.dtype.kind == "f":
        samples = np.nan_to_num(samples).clip(-1.0, 1.0) * 32_767.0
    elif samples.dtype != np.int16:
        raise Invalid(f"samples of {samples.dtype} are no sound", next_step="give floats of -1 to 1, or int16")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(samples.astype("<i2").tobytes())
    return buffer.getvalue()


def _file_or(given: Any, encode: Any, suffix: str) -> tuple[str, bytes]:
    """The bytes of a file with its own suffix, or what `encode` makes of a value."""
    if not isinstance(given, str | Path):
        return suffix, encode(given)
    path = Path(given)
    if not path.is_file():
        raise NotFound(f"there is no file {str(given)!r}")
    if not re.fullmatch(r"\.\w{1,8}", path.suffix):
        raise Invalid(f"the file {path.name!r} does not tell its kind", next_step="use log_artifact")
    return path.suffix, path.read_bytes()
