"""A bundle says what it is, and a changed byte is found."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec
import numpy as np
import onnx
import polars as pl
import pytest
from onnx import TensorProto, helper
from tests.models.conftest import Trips

from loopwright.core import Corrupt, DType, Invalid, NotFound
from loopwright.models import Bundle, Layout, Task, build_bundle, predict_frame


@pytest.fixture
def copy(bundle: Bundle, tmp_path: Path) -> Bundle:
    """A copy of the bundle, to damage."""
    shutil.copytree(bundle.folder, tmp_path / "copy")
    return Bundle(tmp_path / "copy")


def test_the_signature_tells_types_ranges_categories_and_what_may_be_missing(bundle: Bundle, trips: Trips) -> None:
    inputs = {item.name: item for item in bundle.signature.inputs}
    assert [item.dtype for item in bundle.signature.inputs] == [
        DType.FLOAT64,
        DType.FLOAT64,
        DType.INT64,
        DType.STRING,
        DType.BOOL,
        DType.FLOAT64,
    ]
    assert [name for name, item in inputs.items() if item.nullable] == ["wind"]
    assert inputs["hour"].low == 0
    assert inputs["hour"].high == 23
    assert inputs["carrier"].categories == ("AA", "UA", "B6", "DL")
    assert not inputs["carrier"].more_categories
    assert inputs["distance"].low == pytest.approx(trips.rows["distance"].min())


def test_the_profile_in_the_bundle_describes_the_training_rows(bundle: Bundle, trips: Trips) -> None:
    profile = bundle.profile()
    assert profile.rows == trips.rows.height
    assert profile.columns["wind"].nulls == trips.rows["wind"].null_count()
    assert profile.columns["distance"].mean == pytest.approx(trips.rows["distance"].mean())
    assert bundle.output_profile().columns["probability"].count >= trips.rows.height


@pytest.mark.parametrize("name", ["model.onnx", "profile.sketch", "environment.txt", "example.json"])
def test_one_flipped_bit_in_any_file_is_found(copy: Bundle, name: str) -> None:
    data = bytearray((copy.folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy.folder / name).write_bytes(data)
    with pytest.raises(Corrupt, match=name):
        copy.verify()


def test_a_changed_graph_refuses_to_load(copy: Bundle) -> None:
    data = bytearray((copy.folder / "model.onnx").read_bytes())
    data[-1] ^= 1
    (copy.folder / "model.onnx").write_bytes(data)
    with pytest.raises(Corrupt):
        copy.predictor()


def test_a_manifest_that_was_edited_is_refused_wherever_it_is_read(copy: Bundle) -> None:
    path = copy.folder / "bundle.json"
    whole = path.read_text()
    about = msgspec.json.decode(whole)
    path.write_text(whole.replace('"hour"', '"HOUR"', 1))
    with pytest.raises(Corrupt, match="manifest is not what was built"):
        Bundle(copy.folder)
    path.write_bytes(msgspec.json.encode(about))  # written otherwise, it says the same
    Bundle(copy.folder).verify()
    path.write_bytes(msgspec.json.encode({name: value for name, value in about.items() if name != "seal"}))
    Bundle(copy.folder).verify()  # as bundles were made before they had a digest of the manifest


def test_a_file_that_the_manifest_does_not_name_is_found(copy: Bundle) -> None:
    (copy.folder / "extra.pkl").write_bytes(b"x")
    with pytest.raises(Corrupt, match=r"extra\.pkl"):
        copy.verify()


def test_a_folder_without_a_bundle_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"bundle\.json"):
        Bundle(tmp_path)


def test_a_manifest_of_a_newer_form_is_refused(copy: Bundle) -> None:
    path = copy.folder / "bundle.json"
    path.write_bytes(path.read_bytes().replace(b'"manifest_format": 1', b'"manifest_format": 99'))
    with pytest.raises(Invalid, match="manifest format 99"):
        Bundle(copy.folder)


def test_a_bundle_without_a_folder_of_its_own_goes_with_its_process_alone(
    fitted: object, trips: Trips, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[tuple[object, ...]] = []
    monkeypatch.setattr("atexit.register", lambda *given: ends.append(given))
    folder = build_bundle(fitted, trips.rows).folder
    [(remove, *given)] = [end for end in ends if folder in end]
    assert callable(remove)
    remove(folder, os.getppid())
    assert (folder / "bundle.json").is_file()
    remove(*given)
    assert not folder.exists()


def test_the_example_is_a_request_that_the_model_answers(bundle: Bundle) -> None:
    request = msgspec.json.decode((bundle.folder / "example.json").read_bytes())
    columns = {tensor["name"]: np.array(tensor["data"]) for tensor in request["inputs"]}
    assert set(bundle.predictor().predict(columns)) == {"label", "probability"}


def test_the_same_model_gives_the_same_graph(fitted: object, trips: Trips, bundle: Bundle) -> None:
    again = build_bundle(fitted, trips.rows)
    assert again.manifest.files["model.onnx"] == bundle.manifest.files["model.onnx"]
    assert again.manifest.environment == bundle.manifest.environment


def test_rows_and_columns_give_the_same_answers(bundle: Bundle, trips: Trips) -> None:
    predictor, rows = bundle.predictor(), trips.rows.head(40)
    by_column = predict_frame(predictor, rows)
    by_row = predictor.predict_rows([list(row) for row in rows.select(bundle.signature.names).iter_rows()])
    np.testing.assert_array_equal(by_column["probability"].to_numpy(), by_row["probability"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("hour"), "missing: hour"),
        (lambda c: c.update(colour=c["hour"]), "unknown: colour"),
        (lambda c: c.update(hour=c["hour"][:1]), "different lengths"),
        (lambda c: c.update(hour=np.array(["x", "y"])), "'hour' takes int64"),
    ],
    ids=["missing", "unknown", "lengths", "type"],
)
def test_columns_that_do_not_fit_are_refused_by_name(
    bundle: Bundle, trips: Trips, change: object, message: str
) -> None:
    columns = {name: trips.rows[name].head(2).to_numpy() for name in bundle.signature.names}
    change(columns)  # type: ignore[operator]
    with pytest.raises(Invalid, match=message):
        bundle.predictor().predict(columns)


def _doubling_graph(width: int | None) -> onnx.ModelProto:
    shape = [None, width] if width else [None]
    two = helper.make_tensor("two", TensorProto.FLOAT, [], [2.0])
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "two"], ["y"])],
        "doubling",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [two],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_an_onnx_file_is_brought_as_it_is(tmp_path: Path) -> None:
    onnx.save(_doubling_graph(3), str(tmp_path / "double.onnx"))
    rows = pl.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0], "c": [5.0, 6.0]})
    made = build_bundle(tmp_path / "double.onnx", rows)
    assert made.manifest.layout is Layout.MATRIX
    assert made.manifest.task is Task.OTHER
    assert made.manifest.parity.rows == 0
    assert predict_frame(made.predictor(), rows)["y"].to_list() == [[2.0, 6.0, 10.0], [4.0, 8.0, 12.0]]


def test_an_onnx_graph_with_named_columns_is_a_regression(tmp_path: Path) -> None:
    made = build_bundle(_doubling_graph(None), pl.DataFrame({"x": [1.0, 2.5]}))
    assert made.manifest.task is Task.REGRESSION
    assert predict_frame(made.predictor(), pl.DataFrame({"x": [4.0]}))["value"].to_list() == [8.0]


def test_a_graph_whose_weights_lie_elsewhere_is_refused() -> None:
    graph = _doubling_graph(None)
    tensor = graph.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    with pytest.raises(Invalid, match="lie in another file"):
        build_bundle(graph, pl.DataFrame({"x": [1.0]}))


def test_a_graph_with_operators_of_another_domain_is_refused() -> None:
    graph = _doubling_graph(None)
    graph.graph.node[0].domain = "com.example"
    graph.opset_import.append(helper.make_opsetid("com.example", 1))
    with pytest.raises(Invalid, match=r"com\.example"):
        build_bundle(graph, pl.DataFrame({"x": [1.0]}))


def test_a_file_that_is_no_onnx_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(Invalid, match="not a valid ONNX file"):
        build_bundle(tmp_path / "bad.onnx", pl.DataFrame({"x": [1.0]}))
