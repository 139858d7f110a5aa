"""Media of a run: what is written can be read back by what reads such files."""

from __future__ import annotations

import io
import json
import struct
import wave
import zlib
from pathlib import Path

import numpy as np
import pandas
import plotly.graph_objects as go
import polars
import pytest
from polars.testing import assert_frame_equal

from loopwright.core import Invalid, NotFound
from loopwright.track.media import KeepsMedia, media_path


class Kept(KeepsMedia):
    """Keeps files in memory."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def log_artifact(self, source: Path | str | bytes, name: str = "") -> None:
        assert isinstance(source, bytes)
        self.files[name] = source


@pytest.fixture
def kept() -> Kept:
    return Kept()


def pixels_of(png: bytes) -> np.ndarray:
    """The pixels of a PNG whose rows are not filtered, by the format's own description (ISO/IEC 15948)."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    at, parts = 8, {}
    while at < len(png):
        (length,), kind = struct.unpack_from(">I", png, at), png[at + 4 : at + 8]
        data = png[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", png, at + 8 + length)[0] == zlib.crc32(kind + data)
        parts[kind] = data
        at += 12 + length
    width, height, depth, colour = struct.unpack_from(">IIBB", parts[b"IHDR"])
    channels = {0: 1, 2: 3, 6: 4}[colour]
    rows = np.frombuffer(zlib.decompress(parts[b"IDAT"]), np.uint8).reshape(height, 1 + width * channels)
    assert depth == 8
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, channels)


@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 1), (3, 5, 3), (3, 5, 4), (1, 1)])
def test_an_array_becomes_an_image(kept: Kept, shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    kept.log_image(pixels, "a")
    found = pixels_of(kept.files["a.png"])
    np.testing.assert_array_equal(found.reshape(shape), pixels)


def test_floats_bools_and_what_is_beyond_the_range_become_bytes(kept: Kept) -> None:
    kept.log_image(np.array([[0.0, 0.5, 1.0, -3.0, 9.0, np.nan]]), "float")
    kept.log_image(np.array([[True, False]]), "bool")
    kept.log_image(np.array([[-5, 300]]), "int")
    assert pixels_of(kept.files["float.png"]).ravel().tolist() == [0, 128, 255, 0, 255, 0]
    assert pixels_of(kept.files["bool.png"]).ravel().tolist() == [255, 0]
    assert pixels_of(kept.files["int.png"]).ravel().tolist() == [0, 255]


def test_a_file_is_kept_as_it_is(kept: Kept, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"jpeg")
    kept.log_image(tmp_path / "x.jpg", "photo")
    kept.log_image(str(tmp_path / "x.jpg"), "row", step=3)
    assert kept.files == {"photo.jpg": b"jpeg", "images/row/00000003.jpg": b"jpeg"}
    with pytest.raises(NotFound):
        kept.log_image(tmp_path / "none.png", "a")


@pytest.mark.parametrize("samples", [np.linspace(-1, 1, 100), np.zeros((50, 2), np.int16), [0.0, 2.0, -2.0]])
def test_samples_become_sound(kept: Kept, samples: object) -> None:
    kept.log_audio(samples, "tone", rate_hz=8_000, step=2)
    with wave.open(io.BytesIO(kept.files["audio/tone/00000002.wav"])) as found:
        array = np.asarray(samples)
        assert (found.getframerate(), found.getnframes(), found.getsampwidth()) == (8_000, len(array), 2)
        assert found.getnchannels() == (1 if array.ndim == 1 else 2)
        heard = np.frombuffer(found.readframes(len(array)), "<i2").reshape(array.shape)
    if array.dtype.kind == "f":
        np.testing.assert_allclose(heard / 32_767, array.clip(-1, 1), atol=1e-4)


@pytest.mark.parametrize(
    "table",
    [
        polars.DataFrame({"a": [1, 2], "b": ["x", None]}),
        polars.LazyFrame({"a": [1, 2], "b": ["x", None]}),
        pandas.DataFrame({"a": [1, 2], "b": ["x", None]}),
        {"a": [1, 2], "b": ["x", None]},
        [{"a": 1, "b": "x"}, {"a": 2, "b": None}],
    ],
    ids=["polars", "lazy", "pandas", "columns", "rows"],
)
def test_tables_of_all_kinds_become_parquet(kept: Kept, table: object) -> None:
    kept.log_table(table, "t", step=1)
    found = polars.read_parquet(io.BytesIO(kept.files["tables/t/00000001.parquet"]))
    assert_frame_equal(found, polars.DataFrame({"a": [1, 2], "b": ["x", None]}), check_dtypes=False)


def test_plotlys_figures_are_data_and_a_page_that_asks_nobody(kept: Kept) -> None:
    figure = go.Figure(go.Scatter(y=[1, 3, 2]))
    kept.log_figure(figure, "roc", step=5)
    kept.log_figure(figure, "only.json")
    assert sorted(kept.files) == ["figures/roc/00000005.html", "figures/roc/00000005.json", "only.json"]
    assert json.loads(kept.files["only.json"])["data"][0]["y"] == [1, 3, 2]
    assert b'src="http' not in kept.files["figures/roc/00000005.html"]


def test_texts_keep_their_name(kept: Kept) -> None:
    kept.log_text("grüße", "notes.md")
    kept.log_text("two", "sample", step=2)
    assert kept.files == {"notes.md": "grüße".encode(), "text/sample/00000002.txt": b"two"}


@pytest.mark.parametrize(
    "wrong",
    [
        lambda kept: kept.log_image(np.zeros((2, 2, 5)), "a"),
        lambda kept: kept.log_image(np.zeros((0, 2)), "a"),
        lambda kept: kept.log_image(np.array([["x"]]), "a"),
        lambda kept: kept.log_audio(np.zeros((2, 2, 2)), "a"),
        lambda kept: kept.log_audio(np.zeros(3, np.int32), "a"),
        lambda kept: kept.log_table(7, "a"),
        lambda kept: kept.log_table({"a": [1], "b": [1, 2]}, "a"),
        lambda kept: kept.log_figure("no figure", "a"),
    ],
)
def test_what_is_none_is_refused_by_name(kept: Kept, wrong: object) -> None:
    with pytest.raises(Invalid, match=r"is no|are no"):
        wrong(kept)  # type: ignore[operator]  # parametrised
    assert kept.files == {}


def test_steps_sort_as_names() -> None:
    paths = [media_path("images", "a/b", ".png", step) for step in (2, 10, 99_999_999)]
    assert paths == sorted(paths)
    assert paths[0] == "images/a/b/00000002.png"
