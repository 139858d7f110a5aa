"""Batch scoring: all rows, in order, once; whatever the form; through kill -9 and bad rows."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from deltalake import write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models.conftest import Trips, bundle, fitted, trips
from tests.serve.conftest import adding_bundle

from loopwright.core import Conflict, Invalid, NotFound
from loopwright.models import Bundle, columns_of
from loopwright.serve.batch import ScoringOptions, ScoringReport, open_rows, score, scorer_of
from loopwright.serve.batch.scoring import _of_size

__all__ = ["bundle", "fitted", "trips"]

ROWS = 1_000


@pytest.fixture(scope="module")
def adding(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return adding_bundle(1.0, tmp_path_factory.mktemp("bundles") / "adding")


def frame_of(rows: int = ROWS) -> pl.DataFrame:
    return pl.DataFrame({"id": np.arange(rows), "x": np.arange(rows, dtype=np.float32) / 4, "note": ['a,\n"b"'] * rows})


def scored(bundle: Bundle, source: Path, output: Path, format: str = "", **options: object) -> ScoringReport:
    chosen = ScoringOptions(**{"part_rows": 300, **options})  # type: ignore[arg-type]
    return score(
        bundle.predictor(), open_rows(source, bundle.signature), output, chosen, model="m", digest="d", format=format
    )


def expect(found: pl.DataFrame, rows: int = ROWS) -> None:
    assert found["id"].to_list() == list(range(rows))
    assert found["value"].to_list() == [number / 4 + 1 for number in range(rows)]


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
@pytest.mark.parametrize("to", ["out", "out.parquet", "out.csv", "out.jsonl"])
def test_every_form_gives_every_row_once_and_in_order(adding: Bundle, tmp_path: Path, suffix: str, to: str) -> None:
    source = tmp_path / f"in{suffix}"
    {".parquet": frame_of().write_parquet, ".csv": frame_of().write_csv, ".jsonl": frame_of().write_ndjson}[suffix](
        source
    )
    report = scored(adding, source, tmp_path / to)
    readers = {"": pl.read_parquet, ".parquet": pl.read_parquet, ".csv": pl.read_csv, ".jsonl": pl.read_ndjson}
    found = readers[Path(to).suffix](tmp_path / to)
    expect(found)
    assert found.columns == ["id", "note", "value"]
    assert found["note"].to_list() == ['a,\n"b"'] * ROWS
    assert (report.rows, report.bad_rows, report.resumed_rows) == (ROWS, 0, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source.name, to])


def test_a_folder_of_files_and_a_delta_table_are_read_as_one(adding: Bundle, tmp_path: Path) -> None:
    folder, table = tmp_path / "folder", tmp_path / "table"
    folder.mkdir()
    for number, part in enumerate(frame_of().iter_slices(400)):
        part.write_parquet(folder / f"{number}.parquet")
        write_deltalake(str(table), part.drop("note"), mode="append")
    scored(adding, folder, tmp_path / "a.parquet")
    expect(pl.read_parquet(tmp_path / "a.parquet"))
    scored(adding, table, tmp_path / "b.parquet")
    expect(pl.read_parquet(tmp_path / "b.parquet").sort("id"))


def test_a_delta_table_takes_the_same_job_once(adding: Bundle, tmp_path: Path) -> None:
    frame_of().write_parquet(tmp_path / "in.parquet")
    for _ in range(2):
        scored(adding, tmp_path / "in.parquet", tmp_path / "table", format="delta")
    expect(pl.read_delta(str(tmp_path / "table")).sort("id"))
    frame_of(10).write_parquet(tmp_path / "more.parquet")
    scored(adding, tmp_path / "more.parquet", tmp_path / "table", format="delta")
    assert pl.read_delta(str(tmp_path / "table")).height == ROWS + 10


def test_what_is_kept_is_chosen_and_may_not_collide(adding: Bundle, tmp_path: Path) -> None:
    source = tmp_path / "in.parquet"
    frame_of().with_columns(value=pl.lit(1)).write_parquet(source)
    with pytest.raises(Invalid, match="share the name"):
        scored(adding, source, tmp_path / "a.parquet", keep=("all",))
    scored(adding, source, tmp_path / "a.parquet", keep=("all",), prefix="p_")
    assert pl.read_parquet(tmp_path / "a.parquet").columns == ["id", "x", "note", "value", "p_value"]
    scored(adding, source, tmp_path / "b.parquet", keep=("none",))
    assert pl.read_parquet(tmp_path / "b.parquet").columns == ["value"]
    with pytest.raises(Invalid, match=r"no column.*nope"):
        scored(adding, source, tmp_path / "c.parquet", keep=("nope",))


def test_a_row_without_a_needed_value_is_named_or_gets_no_answer(adding: Bundle, tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    holed = frame_of().with_columns(x=pl.when(pl.col("id").is_in([517, 901])).then(None).otherwise(pl.col("x")))
    holed.write_csv(source)
    with pytest.raises(Invalid, match="row 517 has no value in column 'x'"):
        scored(adding, source, tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()
    report = scored(adding, source, tmp_path / "out.parquet", skip_bad=True)
    found = pl.read_parquet(tmp_path / "out.parquet")
    assert found["id"].to_list() == list(range(ROWS))
    assert found.filter(pl.col("value").is_null())["id"].to_list() == [517, 901]
    assert report.bad_rows == 2
    report = scored(adding, source, tmp_path / "alone.parquet", skip_bad=True, keep=())
    assert (report.rows, report.bad_rows) == (ROWS, 2)
    assert pl.read_parquet(tmp_path / "alone.parquet")["value"].equals(found["value"])


def test_no_rows_give_an_output_without_rows(adding: Bundle, tmp_path: Path) -> None:
    frame_of(0).write_parquet(tmp_path / "in.parquet")
    assert scored(adding, tmp_path / "in.parquet", tmp_path / "out.parquet").rows == 0
    assert pl.read_parquet(tmp_path / "out.parquet").columns == ["id", "note", "value"]


def test_bad_requests_say_what_to_do_and_leave_nothing(adding: Bundle, tmp_path: Path) -> None:
    source = tmp_path / "in.parquet"
    frame_of().write_parquet(source)
    (tmp_path / "there.csv").write_text("mine")
    (tmp_path / "odd.xyz").write_text("?")
    with pytest.raises(Conflict, match="there already"):
        scored(adding, source, tmp_path / "there.csv")
    with pytest.raises(Invalid, match="no form that answers"):
        scored(adding, source, tmp_path / "out.xls")
    with pytest.raises(Invalid, match="no form that can be scored"):
        scored(adding, tmp_path / "odd.xyz", tmp_path / "out.csv")
    with pytest.raises(NotFound, match="no file"):
        scored(adding, tmp_path / "gone.csv", tmp_path / "out.csv")
    frame_of().rename({"x": "z"}).write_parquet(tmp_path / "other.parquet")
    with pytest.raises(Invalid, match=r"lack the column\(s\) x"):
        scored(adding, tmp_path / "other.parquet", tmp_path / "out.csv")
    assert (tmp_path / "there.csv").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.parquet", "odd.xyz", "other.parquet", "there.csv"]


def test_the_answers_have_the_same_bits_whatever_the_threads(bundle: Bundle, trips: Trips, tmp_path: Path) -> None:
    frame = pl.concat([trips.rows] * (40_000 // trips.rows.height)).select(bundle.manifest.signature.names)
    columns = columns_of(frame, bundle.manifest.signature)
    one, three = (scorer_of(bundle, threads).predict(columns) for threads in (1, 3))
    alone = bundle.predictor(1).predict(columns)
    for name, values in alone.items():
        assert values.tobytes() == one[name].tobytes() == three[name].tobytes()


@given(sizes=st.lists(st.integers(0, 30), max_size=20), size=st.integers(1, 17))
@settings(deadline=None)
def test_rows_are_cut_into_equal_parts(sizes: list[int], size: int) -> None:
    total = sum(sizes)
    numbers = iter(range(total))
    frames = [pl.DataFrame({"n": [next(numbers) for _ in range(count)]}, schema={"n": pl.Int64}) for count in sizes]
    found = list(_of_size(iter(frames), size))
    assert [number for frame in found for number in frame["n"].to_list()] == list(range(total))
    assert all(frame.height == size for frame in found[:-1])
    assert all(0 < frame.height <= size for frame in found[-1:])


@pytest.mark.fault
def test_a_scoring_that_was_killed_goes_on_behind_its_last_whole_part(adding: Bundle, tmp_path: Path) -> None:
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    rows = 60_000
    frame_of(rows).write_csv(source)
    command = [sys.executable, "-m", "loopwright", "predict", str(adding.folder), "--input", str(source)]
    command += ["--output", str(output), "--part-rows", "2000", "--json"]
    kills, resumed = 0, 0
    for _ in range(40):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path)
        folder = tmp_path / ".out.csv.scoring"
        before = len(list(folder.glob("part-*.parquet")))
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if len(list(folder.glob("part-*.parquet"))) >= before + 3:
                os.kill(process.pid, signal.SIGKILL)
                break
            time.sleep(0.002)
        out, err = process.communicate(timeout=60)
        if process.returncode == 0:
            import msgspec

            report = msgspec.json.decode(out, type=ScoringReport)
            resumed = report.resumed_rows
            break
        assert process.returncode == -signal.SIGKILL, err.decode()
        kills += 1
    assert kills > 0
    assert resumed > 0
    with output.open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [int(row["id"]) for row in found] == list(range(rows))
    assert all(float(row["value"]) == number / 4 + 1 for number, row in enumerate(found))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.csv"]


@pytest.mark.fault
@pytest.mark.fault
def test_a_scoring_that_was_killed_while_it_wrote_the_output_leaves_nothing_beside_it(
    adding: Bundle, tmp_path: Path
) -> None:
    frame_of(100).write_csv(tmp_path / "in.csv")
    given = ["predict", str(adding.folder), "--input", "in.csv", "--output", "out.csv"]
    dying = (
        "import os, sys; from loopwright.cli import main; from loopwright.serve.batch import outputs\n"
        "outputs._SINKS['.csv'] = lambda frame, path: (frame.sink_csv(path), os.kill(os.getpid(), 9))\n"
        "main(sys.argv[1:])"
    )
    killed = subprocess.run([sys.executable, "-c", dying, *given], cwd=tmp_path, capture_output=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not (tmp_path / "out.csv").exists()
    subprocess.run([sys.executable, "-m", "loopwright", *given], cwd=tmp_path, check=True, timeout=120)
    assert pl.read_csv(tmp_path / "out.csv")["id"].to_list() == list(range(100))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".out")] == []


def test_other_rows_or_another_model_do_not_go_on_with_old_parts(
    adding: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = tmp_path / "in.parquet", tmp_path / "out.parquet"
    frame_of(100).write_parquet(source)
    with monkeypatch.context() as patch:
        patch.setattr("loopwright.serve.batch.scoring.publish", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            scored(adding, source, output)
    frame_of().write_parquet(source)
    with pytest.raises(Conflict, match="unfinished scoring"):
        scored(adding, source, output)
    report = scored(adding, source, output, restart=True)
    assert report.resumed_rows == 0
    expect(pl.read_parquet(output))
