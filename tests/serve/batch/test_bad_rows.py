"""Bad input of batch scoring: file, line and column are named, and nothing is left behind."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake
from tests.serve.conftest import adding_bundle
from tests.servers import report_missing

from loopwright.core import Conflict, Invalid, LoopwrightError, Unavailable
from loopwright.models import Bundle
from loopwright.serve.batch import ScoringOptions, open_rows, score

GOOD = b"".join(b"%d,%d\n" % (number, number) for number in range(12_000))
LINES = b'{"id": 1, "x": 1.0}\n' * 3_000


@pytest.fixture(scope="module")
def adding(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return adding_bundle(1.0, tmp_path_factory.mktemp("bundles") / "adding")


def refusal(bundle: Bundle, source: Path, **options: object) -> str:
    """What scoring says of a source, once it is clear that it left nothing."""
    output = source.parent / "answers" / "out.parquet"
    chosen = ScoringOptions(**{"part_rows": 500, **options})  # type: ignore[arg-type]
    with pytest.raises(Invalid) as found:
        score(bundle.predictor(), open_rows(source, bundle.signature), output, chosen, model="m", digest="d")
    assert not output.parent.exists() or list(output.parent.iterdir()) == []
    assert found.value.next_step
    return str(found.value).replace(str(source), "FILE")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"id,x\n" + GOOD + b"7,abc\n" + GOOD, "FILE, line 12002, column 'x': 'abc' is not a number"),
        ("a.csv", b"id,x\n" + GOOD + b"late,1\n", "FILE, line 12002, column 'id': 'late' is not a whole number"),
        ("a.csv", b"id,x\n" + GOOD + b"7,1,3\n", "FILE, line 12002: the line has 3 fields; the header names 2"),
        ("a.csv", b"id,x\n" + GOOD + b"7\n" + GOOD, "FILE, line 12002, column 'x': the line has 1 fields"),
        ("a.csv", b"x,id,z\n1,2,3\n4,5\n", "FILE, line 3, column 'z': the line has 2 fields"),
        ("a.csv", b"id,x\n" + GOOD + b'3,"4\n' + GOOD, "FILE, line 12002: a quote is opened and never closed"),
        ("a.csv", b"id,x,n\n1,2,a\n7,1,\xff\xfe\n", "FILE, line 3: byte 5 of the line is 0xff, which is not UTF-8"),
        ("a.csv", b"id,x\n1,\x00\n", "FILE, line 2: the line holds a NUL byte"),
        ("a.csv", b"id,x\n1,nan\n", "FILE: row 0 has no value in column 'x'"),
        ("a.csv", b"id,x\n1,NA\n", "FILE, line 2, column 'x': 'NA' is not a number"),
        ("a.csv", b"id,X\n1,2\n", "FILE: the rows lack the column(s) x (the model takes x; the rows have id, X)"),
        ("a.csv", b"id,x,x\n1,2,3\n", "FILE, line 1: two columns have the name 'x'"),
        ("a.csv", b"", "FILE: the file has no header"),
        ("a.csv.gz", gzip.compress(b"id,x\n" + GOOD + b"7,abc\n"), "FILE, line 12002, column 'x': 'abc' is not"),
        ("a.csv.gz", gzip.compress(b"id,x\n" + GOOD)[:-900], "FILE: damaged gzip"),
        ("a.jsonl", LINES + b'{"id": 1, "x": "abc"}\n', "FILE, line 3001, column 'x': 'abc' is text, not a number"),
        ("a.jsonl", LINES + b'{"id": 1, "x":\n', "FILE, line 3001: not valid JSON"),
        ("a.parquet", b"PAR1", "FILE: the file is damaged or cut short"),
    ],
)
def test_a_malformed_file_is_named_with_line_and_column(
    adding: Bundle, tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert refusal(adding, tmp_path / name).startswith(said)


def test_one_bad_file_of_a_folder_is_named(adding: Bundle, tmp_path: Path) -> None:
    folder, frame = tmp_path / "folder", pl.DataFrame({"id": range(3_000), "x": [1.0] * 3_000})
    folder.mkdir()
    frame.write_parquet(folder / "1.parquet", row_group_size=500)
    whole = (folder / "1.parquet").read_bytes()
    middle = len(whole) // 2
    bad: dict[str, Callable[[Path], object]] = {
        "2.parquet: the file lacks x": frame.drop("x").write_parquet,
        "2.parquet: the file has column 'x' as String": frame.with_columns(x=pl.lit("a")).write_parquet,
        "2.parquet: the file is damaged": lambda path: path.write_bytes(
            whole[:middle] + bytes(5_000) + whole[middle + 5_000 :]
        ),
    }
    for said, write in bad.items():
        write(folder / "2.parquet")
        assert f"/{said}" in refusal(adding, folder)
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "1.csv").write_bytes(b"id,x\n" + GOOD)
    (folder / "2.csv").write_bytes(b"id,y\n" + GOOD)
    assert "/2.csv, line 1: the columns are id, y, and those of 1.csv are id, x" in refusal(adding, folder)
    frame.with_columns(x=pl.lit("a")).write_parquet(tmp_path / "text.parquet")
    assert refusal(adding, tmp_path / "text.parquet").startswith("FILE, column 'x': the column holds String")


def test_rows_that_change_while_they_are_read_give_no_answers(adding: Bundle, tmp_path: Path) -> None:
    source, output = tmp_path / "in.csv", tmp_path / "out.parquet"
    source.write_bytes(b"id,x\n" + GOOD)
    rows = open_rows(source, adding.signature)
    with source.open("ab") as file:
        file.write(b"1,2\n")
    with pytest.raises(Conflict, match="were changed while they were read"):
        score(adding.predictor(), rows, output, model="m", digest="d")
    assert not output.exists()
    table = tmp_path / "table"
    for number in range(2):
        write_deltalake(str(table), pl.DataFrame({"id": [number], "x": [1.0]}), mode="overwrite")
    rows = open_rows(table, adding.signature)
    write_deltalake(str(table), pl.DataFrame({"id": [9, 9], "x": [5.0, 5.0]}), mode="append")
    report = score(adding.predictor(), rows, tmp_path / "pinned.parquet", model="m", digest="d")
    assert report.rows == 1
    write_deltalake(str(table), pl.DataFrame({"id": [7], "x": [7.0]}), mode="overwrite")
    DeltaTable(str(table)).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    with pytest.raises(Conflict, match="vacuumed or moved"):
        score(adding.predictor(), rows, output, model="m", digest="d")
    assert not output.exists()


def test_an_output_that_cannot_be_is_refused_before_any_work(adding: Bundle, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(b"id,x\n" + GOOD)
    rows = open_rows(tmp_path / "in.csv", adding.signature)
    with pytest.raises(Unavailable, match="is no folder"):
        score(adding.predictor(), rows, tmp_path / "in.csv" / "out.csv", model="m", digest="d")
    write_deltalake(str(tmp_path / "table"), pl.DataFrame({"other": ["a"]}))
    with pytest.raises(Invalid, match="table"):
        score(adding.predictor(), rows, tmp_path / "table", model="m", digest="d", format="delta")
    assert pl.read_delta(str(tmp_path / "table")).columns == ["other"]


@pytest.mark.fault
def test_a_full_disk_is_said_and_the_scoring_goes_on_when_there_is_space(adding: Bundle, tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    if unshare is None or os.geteuid() != 0:
        report_missing("mounting a small file system needs root on Linux (unshare -m)")
    rows, small = tmp_path / "in.parquet", tmp_path / "small"
    small.mkdir()
    numbers = pl.int_range(400_000, eager=True)
    pl.DataFrame({"id": numbers.hash(7), "x": numbers.cast(pl.Float32)}).write_parquet(rows)
    predict = f"{sys.executable} -m loopwright predict {adding.folder} -i {rows} -o {small}/out.parquet"
    script = (
        f"set -e; mount -t tmpfs -o size=7m none {small}; head -c 5m /dev/zero > {small}/filler; "
        f"{predict} --part-rows 50000 || echo code $?; ls {small}; rm {small}/filler; "
        f"mount -o remount,size=64m {small}; {predict} --part-rows 50000 --json; ls -A {small}"
    )
    done = subprocess.run(
        [unshare, "-m", "sh", "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    if "mount" in done.stderr and "code" not in done.stdout:
        report_missing("this container may not mount file systems")
    assert done.returncode == 0, done.stderr
    first, listed, *_, told, left = done.stdout.splitlines()
    assert (first, listed, left) == ("code 4", "filler", "out.parquet")
    assert "it goes on where it stopped" in done.stderr
    assert '"rows":400000' in told
    assert '"resumed_rows":0' not in told


def test_the_command_says_it_in_one_line_with_its_code(adding: Bundle, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from loopwright.cli.main import main

    (tmp_path / "in.csv").write_bytes(b"id,x\n1,a b\n")
    runner = CliRunner()
    with runner.isolation() as (_, stderr, *_rest):
        code = main(["predict", str(adding.folder), "-i", str(tmp_path / "in.csv"), "-o", str(tmp_path / "out.csv")])
        said = stderr.getvalue().decode()
    assert code == LoopwrightError.exit_code
    assert said.count("\n") == 1
    assert "line 2, column 'x': 'a b' is not a number (mend the line)" in said
