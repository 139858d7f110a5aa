"""The exported folder on its own: nothing but numpy and onnxruntime, and messages that name the column and the row."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.examples import examples
from tests.models.conftest import Trips
from tests.serve.edge.conftest import Network

from loopwright.models import Bundle, columns_of
from loopwright.serve import EdgePlan, export_edge
from loopwright.serve.edge.standalone import BadInput, Damaged, EdgeModel, answer_csv

pytestmark = pytest.mark.slow

# Refuses every package but two, and those parts of the standard library that a machine has.
ALONE = """
import sys
sys.path[:0] = [FOLDER, SITE]
class OnlyTwo:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in {"numpy", "onnxruntime", "bundle"}:
            raise ModuleNotFoundError(f"{name} is not there", name=name)
sys.meta_path.insert(0, OnlyTwo())
"""


@pytest.fixture(scope="module")
def folder(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("edge") / "trips"
    assert export_edge(bundle, target, EdgePlan(), ref="trips", digest="ab" * 32).passed
    return target


@pytest.fixture(scope="module")
def model(folder: Path) -> EdgeModel:
    return EdgeModel(folder)


ROW = {"distance": 700.0, "wind": None, "hour": 9, "carrier": "AA", "holiday": False, "value": 0.5}


def alone(folder: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    site = str(Path(np.__file__).parents[1])
    text = f"FOLDER, SITE = {str(folder)!r}, {site!r}\n{ALONE}\n{program}"
    command = [sys.executable, "-I", "-S", "-B", "-c", text, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd="/")


def answered(model: EdgeModel, text: str) -> list[dict[str, str]]:
    out = io.StringIO()
    answer_csv(model, io.StringIO(text), out)
    return list(csv.DictReader(io.StringIO(out.getvalue())))


def test_the_folder_predicts_with_numpy_and_onnxruntime_alone(folder: Path, bundle: Bundle, trips: Trips) -> None:
    rows = trips.rows[:50]
    program = (
        "import json\nfrom bundle import predict\n"
        "found = predict(json.loads(sys.argv[1]))\n"
        "print(json.dumps({name: values.tolist() for name, values in found.items()}))\n"
        "for name in ('loopwright', 'msgspec', 'blake3'):\n"
        "    try:\n        __import__(name)\n    except ModuleNotFoundError:\n        continue\n"
        "    raise SystemExit(name)"
    )
    done = alone(folder, program, json.dumps(rows.to_dicts()))
    assert done.returncode == 0, done.stderr
    found, own = json.loads(done.stdout), bundle.predictor().predict(columns_of(rows, bundle.signature))
    assert found["label"] == own["label"].tolist()
    assert found["probability"] == own["probability"].tolist()


def test_the_small_command_answers_a_file(folder: Path, bundle: Bundle, trips: Trips, tmp_path: Path) -> None:
    trips.rows.with_columns(other=pl.lit("x")).write_csv(tmp_path / "rows.csv")  # 1,500 rows: more than one chunk
    program = "import runpy\nsys.argv = ['bundle.py', *sys.argv[1:]]\n"
    program += "runpy.run_path(FOLDER + '/bundle.py', run_name='__main__')"
    done = alone(folder, program, str(tmp_path / "rows.csv"))
    assert done.returncode == 0, done.stderr
    found = pl.read_csv(io.StringIO(done.stdout))
    own = bundle.predictor().predict(columns_of(trips.rows, bundle.signature))
    assert found["label"].to_list() == own["label"].tolist()
    assert np.array_equal(found["probability"].to_numpy().astype(np.float32), own["probability"])
    (tmp_path / "bad.csv").write_text("distance,wind,hour,carrier,holiday,value\n1,2,noon,AA,true,0\n")
    refused = alone(folder, program, str(tmp_path / "bad.csv"))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "column 'hour', row 0: takes a whole number, not 'noon'\n"


def test_rows_columns_and_arrays_give_the_same_answers(model: EdgeModel, network: Network, tmp_path: Path) -> None:
    rows = [ROW, {**ROW, "hour": 22, "wind": 3.5}]
    columns = {name: [row[name] for row in rows] for name in ROW}
    arrays = {name: np.array(values) for name, values in columns.items() if name != "wind"}
    arrays["wind"] = np.array([np.nan, 3.5])
    found = [model.predict(given)["probability"].tolist() for given in (rows, columns, arrays)]
    assert found[0] == found[1] == found[2]
    assert found[0][0] != found[0][1]
    assert len(model.predict([])["label"]) == 0


@pytest.mark.parametrize(
    "change, message",
    [
        ({"hour": "9"}, "column 'hour', row 1: takes a whole number, not '9'"),
        ({"hour": 9.5}, "column 'hour', row 1: takes a whole number, not 9.5"),
        ({"hour": True}, "column 'hour', row 1: takes a whole number, not True"),
        ({"hour": 2**63}, "column 'hour', row 1"),
        ({"distance": None}, "column 'distance', row 1: is missing"),
        ({"distance": float("nan")}, "column 'distance', row 1: is missing"),
        ({"distance": float("inf")}, "column 'distance', row 1"),
        ({"distance": 10**400}, "row 1: takes a number, not a whole number of about 401 digits"),
        ({"distance": 10**5000}, "row 1: takes a number, not a whole number of about 5001 digits"),
        ({"distance": 1e300}, "column 'distance', row 1: is too large for float32"),
        ({"carrier": 5}, "column 'carrier', row 1: takes a string, not 5"),
        ({"holiday": "no"}, "column 'holiday', row 1: takes true or false"),
        ({"holiday": 2}, "column 'holiday', row 1: takes true or false"),
        ({"cloud": 1}, "row 1: the columns do not fit (unknown: cloud)"),
    ],
)
def test_a_refusal_names_the_column_and_the_row(model: EdgeModel, change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput) as refused:
        model.predict([ROW, {**ROW, **change}])
    assert message in str(refused.value)


def test_missing_columns_and_lengths_that_differ_are_refused(model: EdgeModel) -> None:
    with pytest.raises(BadInput, match=r"row 0: .*missing: value"):
        model.predict([{name: value for name, value in ROW.items() if name != "value"}])
    with pytest.raises(BadInput, match="different lengths"):
        model.predict({name: [value] * (2 if name == "hour" else 1) for name, value in ROW.items()})
    with pytest.raises(BadInput, match="column 'distance', row 1"):
        model.predict({**{name: [value] * 2 for name, value in ROW.items()}, "distance": np.array([1.0, np.inf])})


def test_cells_of_a_file_are_read_as_their_columns_take_them(model: EdgeModel) -> None:
    header = "id,distance,wind,hour,carrier,holiday,value\n"
    found = answered(model, header + "7,700,,9,AA,false,.5\n\n8,700,,9.0,AA,0,0.5\n")
    assert [row["probability"] for row in found] == [str(model.predict([ROW])["probability"].tolist()[0])] * 2
    for line, message in {
        "7,,1,9,AA,false,1": "column 'distance', row 0: is missing",
        "7,1,1,9,AA,maybe,1": "column 'holiday', row 0",
        "7,1,1,9,AA,true": "row 0 has 6 cells, and the header 7",
    }.items():
        with pytest.raises(BadInput) as refused:
            answered(model, header + line + "\n")
        assert message in str(refused.value)
    with pytest.raises(BadInput, match="lacks the columns distance, wind"):
        answered(model, "hour,carrier,holiday,value\n")


def test_a_changed_byte_refuses_to_load(folder: Path, tmp_path: Path) -> None:
    for name in ("bundle.json", "model.onnx"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    EdgeModel(tmp_path)
    data = bytearray((tmp_path / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "model.onnx").write_bytes(data)
    with pytest.raises(Damaged, match=r"model\.onnx is not what was exported"):
        EdgeModel(tmp_path)
    for text in ("{", "[]", '{"edge_format": 9}'):
        (tmp_path / "bundle.json").write_text(text)
        with pytest.raises(Damaged, match=r"bundle\.json"):
            EdgeModel(tmp_path)


ANY = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.lists(st.floats(), max_size=2)
)


@given(st.lists(st.fixed_dictionaries({name: st.just(value) | ANY for name, value in ROW.items()}), max_size=4))
@settings(max_examples=examples(200), deadline=None)
def test_any_values_are_answered_or_refused_by_name(model: EdgeModel, rows: list[dict[str, Any]]) -> None:
    refusal = ""
    found: dict[str, Any] = {}
    try:
        found = model.predict(rows)
    except BadInput as error:
        refusal = str(error)
    if refusal:
        assert any(f"column {name!r}, row" in refusal for name in ROW)
    else:
        assert len(found["label"]) == len(rows)


@given(st.lists(st.lists(st.text() | st.sampled_from(["", "1", "AA", "true", "1e400", "9" * 400]), max_size=7)))
@settings(max_examples=examples(200), deadline=None)
def test_any_cells_are_answered_or_refused(model: EdgeModel, cells: list[list[str]]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([list(ROW), *cells])
    given, out = io.StringIO(text.getvalue()), io.StringIO()
    refusal, answered = "", 0
    try:
        answered = answer_csv(model, given, out)
    except csv.Error as error:
        refusal = f"row of no CSV: {error}"
    except BadInput as error:
        refusal = str(error)
    if refusal:
        assert "row " in refusal
    else:
        assert answered == sum(row != [] for row in cells)
        assert len(list(csv.reader(io.StringIO(out.getvalue())))) == answered + bool(answered)
