"""What pages show of files, and Markdown that can do nothing."""

import io
import re

import polars as pl
import pytest
from tests.ui.crowd import HOSTILE, HOSTILE_MARKDOWN, files

from loopwright.ui.markdown import markdown
from loopwright.ui.previews import Preview, inert_type, preview_of


def shown(path: str, data: bytes) -> Preview:
    asked: list[int] = []

    def read(limit: int) -> bytes:
        asked.append(limit)
        return data[:limit]

    found = preview_of(path, len(data), read)
    assert all(limit <= 32 << 20 for limit in asked)
    return found


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("images/confusion.png", "image"),
        ("images/vector.svg", "image"),
        ("audio/tone.wav", "audio"),
        ("tables/eval.csv", "table"),
        ("tables/eval.parquet", "table"),
        ("tables/answers.json", "table"),
        ("config/settings.json", "text"),
        ("notes/readme.md", "markdown"),
        ("notes/log.txt", "text"),
        ("page.html", "text"),
        ("weights.bin", "none"),
    ],
)
def test_a_file_is_shown_by_its_kind(path: str, kind: str) -> None:
    assert shown(path, files()[path]).kind == kind


def test_csv_and_parquet_of_one_table_look_alike_and_say_what_is_left_out() -> None:
    made = files()
    csv, parquet = shown("a.csv", made["tables/eval.csv"]), shown("a.parquet", made["tables/eval.parquet"])
    assert csv.columns == parquet.columns == ("epoch", "loss", "note")
    assert len(csv.rows) == len(parquet.rows) == 100
    assert csv.rows[3][2] == parquet.rows[3][2] == HOSTILE
    assert parquet.note == "The first 100 of 300 rows."


def test_of_a_large_csv_only_the_head_is_read_and_no_row_is_cut() -> None:
    data = b"a,b\n" + b"12345,67890\n" * 100_000
    read: list[int] = []

    def reader(limit: int) -> bytes:
        read.append(limit)
        return data[:limit]

    found = preview_of("large.csv", len(data), reader)
    assert max(read) <= 1 << 20
    assert set(found.rows) == {("12345", "67890")}


@pytest.mark.parametrize("path", ["x.csv", "x.parquet", "x.json", "x.jsonl", "x.tsv"])
@pytest.mark.parametrize("data", [b"", b"\x00\xff\x00garbage", b'{"a": [1, 2', b"PAR1nothingPAR1", b'"\n"\n'])
def test_a_table_that_is_none_is_told_and_breaks_nothing(path: str, data: bytes) -> None:
    assert shown(path, data).kind in ("text", "none", "table")


def test_a_parquet_file_that_is_too_large_is_not_read() -> None:
    found = preview_of("x.parquet", 10 << 30, lambda limit: pytest.fail("it was read"))
    assert found.kind == "none"
    assert "32 MiB" in found.note


def test_a_table_of_many_columns_is_cut() -> None:
    buffer = io.BytesIO()
    pl.DataFrame({f"c{n}": [n] for n in range(100)}).write_parquet(buffer)
    found = shown("wide.parquet", buffer.getvalue())
    assert len(found.columns) == len(found.rows[0]) == 60
    assert "60 of 100 columns" in found.note


def test_json_lines_and_records_are_tables() -> None:
    lines = shown("x.jsonl", b'{"a": 1}\n{"a": 2, "b": "x"}\n')
    assert (lines.columns, lines.rows) == (("a", "b"), ((1, None), (2, "x")))
    assert shown("x.json", b'[{"a": 1}, {"a": 2}]').rows == ((1,), (2,))


@pytest.mark.parametrize("name", ["x.html", "x.js", "x.pdf", "x.xml", "x.css", "x", "x.png.html"])
def test_only_pictures_and_sounds_are_sent_under_their_own_type(name: str) -> None:
    assert inert_type(name) == "application/octet-stream"
    assert inert_type("a.png") == "image/png"


def test_markdown_makes_nothing_but_text_tables_and_web_links() -> None:
    html = str(markdown(HOSTILE_MARKDOWN + '\n[ok](https://example.org "t") <https://a.example> [d](data:text/html,x)'))
    assert set(re.findall(r"<([a-z0-9]+)", html)) <= {
        "h1",
        "p",
        "strong",
        "a",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
    }
    assert re.findall(r'href="([^":]*:)', html) == ["https:"] * 3
    assert "onerror=" not in re.sub(r"&lt;.*?&gt;", "", html)


def test_a_very_long_markdown_text_is_shown_as_text() -> None:
    assert str(markdown("<b>" * 100_000)).startswith("<pre>&lt;b&gt;")
