"""Models in Python as bundles: what goes in, what is proved, what is refused, and that they are registered."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.models.conftest import Trips
from tests.models.isolated.sources import Capped, Mixing, Named

from loopwright.core import Corrupt, DType, Invalid, NotFound, Scope
from loopwright.models import (
    Bundle,
    CustomPredictor,
    ModelFailed,
    ModelService,
    Runner,
    Task,
    build_bundle,
    predict_frame,
)
from loopwright.store import Stores

SCORER = """
import json, struct
import numpy as np
from loopwright.models import CustomPredictor


class Scorer(CustomPredictor):
    def load(self, folder):
        data = (folder / "model.safetensors").read_bytes()
        size = struct.unpack("<Q", data[:8])[0]
        start, end = json.loads(data[8 : 8 + size])["weight"]["data_offsets"]
        self.weight = np.frombuffer(data[8 + size + start : 8 + size + end], dtype=np.float32)

    def predict(self, columns):
        return {"value": columns["distance"] * self.weight[0] + columns["value"] * self.weight[1]}
"""


@pytest.fixture
def limits(tmp_path: Path) -> Path:
    (tmp_path / "limits").mkdir()
    (tmp_path / "limits" / "limits.json").write_text('{"limit": 800}', encoding="utf-8")
    return tmp_path / "limits"


def weights(**tensors: np.ndarray[Any, Any]) -> bytes:
    """A safetensors file."""
    header, data = {}, b""
    for name, array in tensors.items():
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [len(data), len(data) + array.nbytes]}
        data += array.tobytes()
    head = json.dumps(header).encode()
    return struct.pack("<Q", len(head)) + head + data


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text('{"auto_map": {"Predictor": "scoring.Scorer"}}', encoding="utf-8")
    (folder / "scoring.py").write_text(SCORER, encoding="utf-8")
    (folder / "model.safetensors").write_bytes(weights(weight=np.array([0.5, 2.0], dtype=np.float32)))
    return folder


def test_a_class_its_source_and_its_files_become_a_bundle_that_proves_itself(trips: Trips, limits: Path) -> None:
    made = build_bundle(Capped, trips.rows, files=limits, target="delay", training_data=["dataset:trips@1"])
    assert made.manifest.format == "python/predictor"
    assert made.manifest.manifest_format == 2
    assert made.manifest.code is not None
    assert (made.manifest.code.runner, made.manifest.code.entry) == (Runner.PREDICTOR, "sources:Capped")
    assert {"code/sources.py", "files/limits.json", "profile.sketch", "environment.txt"} <= set(made.manifest.files)
    assert made.manifest.task is Task.REGRESSION
    assert made.manifest.parity.rows >= 500
    assert made.manifest.parity.max_abs == 0.0
    assert made.profile().rows == trips.rows.height
    made.verify()
    with made.predictor() as predictor:
        given = predict_frame(predictor, trips.rows)["value"].to_numpy()
        np.testing.assert_array_equal(given, np.minimum(trips.rows["distance"].to_numpy(), 800))
        row = made.example_row()
        assert predictor.predict_rows([row])["value"].tolist() == [min(row[0], 800)]


def test_text_missing_values_and_named_classes_reach_the_model_and_come_back(trips: Trips) -> None:
    made = build_bundle(Named, trips.rows, nullable=["carrier"])
    assert (made.manifest.task, made.manifest.classes) == (Task.BINARY, ("calm", "windy"))
    assert [item.dtype for item in made.signature.outputs] == [DType.STRING, DType.FLOAT64]
    with made.predictor() as predictor:
        rows = trips.rows.head(30).with_columns(carrier=pl.lit(None, pl.String))
        assert set(predict_frame(predictor, rows)["label"].to_list()) == {"calm", "windy"}


def test_a_model_in_python_is_registered_and_answers_from_the_registry(
    stores: Stores, trips: Trips, limits: Path
) -> None:
    registry = ModelService(stores, Scope(actor="user:ada"))
    made = build_bundle(Capped, trips.rows, files=limits)
    version = registry.register("capped", made)
    held = registry.bundle(version.ref)
    assert held.manifest.executes_code
    given = registry.predict("capped", trips.rows.head(20))["value"].to_numpy()
    np.testing.assert_array_equal(given, np.minimum(trips.rows["distance"].to_numpy()[:20], 800))


def test_a_changed_byte_of_code_or_files_refuses_to_load(trips: Trips, limits: Path) -> None:
    for name in ("code/sources.py", "files/limits.json"):
        made = build_bundle(Capped, trips.rows, files=limits)
        path = made.folder / name
        path.write_bytes(path.read_bytes() + b" ")
        with pytest.raises(Corrupt, match=name):
            Bundle(made.folder).predictor()


def test_answers_that_depend_on_the_batch_are_refused(trips: Trips) -> None:
    with pytest.raises(Invalid, match="depends on the other rows"):
        build_bundle(Mixing, trips.rows)


def test_a_source_that_is_not_whole_is_refused_when_it_is_built(trips: Trips, tmp_path: Path) -> None:
    (tmp_path / "lonely.py").write_text("import its_sibling\n", encoding="utf-8")
    with pytest.raises(ModelFailed, match=r"No module named 'its_sibling' \(install what it imports here"):
        build_bundle("lonely:Lonely", trips.rows, code=tmp_path / "lonely.py")
    (tmp_path / "its_sibling.py").write_text("", encoding="utf-8")
    (tmp_path / "lonely.py").write_text(
        "import its_sibling\nclass Lonely:\n    def predict(self, columns):\n"
        "        return {'value': columns['hour']}\n",
        encoding="utf-8",
    )
    made = build_bundle("lonely:Lonely", trips.rows, code=tmp_path)
    assert {"code/lonely.py", "code/its_sibling.py"} <= set(made.manifest.files)
    assert made.manifest.parity.rows == 0


def test_an_object_a_local_class_and_stray_files_are_refused(trips: Trips, limits: Path) -> None:
    class Local(CustomPredictor):
        pass

    with pytest.raises(Invalid, match="inside a function"):
        build_bundle(Local, trips.rows)
    with pytest.raises(Invalid, match="takes the class"):
        build_bundle(Capped(), trips.rows)
    with pytest.raises(Invalid, match="are for a CustomPredictor"):
        build_bundle("model.onnx", trips.rows, files=limits)
    with pytest.raises(NotFound, match="nowhere"):
        build_bundle(Capped, trips.rows, files=limits / "nowhere")
    (limits / "link").symlink_to("/etc/passwd")
    with pytest.raises(Invalid, match="is a link"):
        build_bundle(Capped, trips.rows, files=limits)


def test_a_pickle_among_its_files_is_refused_unless_asked_for(trips: Trips, limits: Path) -> None:
    (limits / "weights.dat").write_bytes(b"\x80\x04N.")
    with pytest.raises(Invalid, match="is a pickle"):
        build_bundle(Capped, trips.rows, files=limits)
    made = build_bundle(Capped, trips.rows, files=limits, allow_pickle=True)
    assert made.manifest.code is not None
    assert made.manifest.code.pickles == ("files/weights.dat",)


def test_a_folder_of_safetensors_with_a_declared_class_is_run_when_asked_for(trips: Trips, checkpoint: Path) -> None:
    with pytest.raises(Invalid, match="allow_code=True"):
        build_bundle(checkpoint, trips.rows)
    made = build_bundle(checkpoint, trips.rows, allow_code=True)
    assert made.manifest.format == "python/safetensors"
    assert {"code/scoring.py", "files/model.safetensors", "files/config.json"} <= set(made.manifest.files)
    with made.predictor() as predictor:
        given = predict_frame(predictor, trips.rows)["value"].to_numpy()
    np.testing.assert_allclose(given, trips.rows["distance"] * 0.5 + trips.rows["value"] * 2)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"short", "no safetensors file"),
        (struct.pack("<Q", 1 << 60) + b"{}", "no safetensors file"),
        (struct.pack("<Q", 8) + b"not json", "no safetensors file"),
        (weights(weight=np.ones(2, np.float32))[:-1], "'weight' lies at"),
        (weights(weight=np.ones(2, np.float32)).replace(b"[2]", b"[9]"), "'weight' lies at"),
    ],
)
def test_weights_whose_header_lies_are_refused(data: bytes, told: str, trips: Trips, checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").write_bytes(data)
    with pytest.raises(Invalid, match=told):
        build_bundle(checkpoint, trips.rows, allow_code=True)


def test_a_declared_class_that_is_not_there_is_not_found(trips: Trips, checkpoint: Path) -> None:
    (checkpoint / "scoring.py").unlink()
    with pytest.raises(NotFound, match="the folder has no scoring"):
        build_bundle(checkpoint, trips.rows, allow_code=True)
    (checkpoint / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(Invalid, match="declares no predictor"):
        build_bundle(checkpoint, trips.rows, allow_code=True)
