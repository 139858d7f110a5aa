"""A bundle comes back as it went, and an archive cannot reach beyond its folder or its bounds."""

from __future__ import annotations

import io
import os
import shutil
import stat
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import onnx
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from sklearn.linear_model import LogisticRegression
from tests.examples import examples
from tests.models.conftest import Trips

from loopwright.core import Conflict, Corrupt, Forbidden, Invalid, LoopwrightError, NotFound, Scope, new_id
from loopwright.models import About, Bundle, Leave, import_model, inspect_bundle, pack, unpack, vouch_for_bundle
from loopwright.models.importing import SCAN_TAG, SOURCE_TAG, rows_for_graph
from loopwright.models.model import sealed
from loopwright.workspace import Workspace, open_workspace

NO_LEAVE = Leave()


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory, with_schema: Callable[[Path], Path]) -> Iterator[Workspace]:
    with open_workspace(with_schema(tmp_path_factory.mktemp("ws"))) as opened:
        yield opened


@pytest.fixture
def ws(opened: Workspace) -> Workspace:
    """A project of its own."""
    return opened.scoped(Scope(f"p{new_id()}", actor="user:local"))


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("target", ["out", "out.zip"])
def test_what_is_exported_comes_back_with_the_same_digest(
    ws: Workspace, bundle: Bundle, tmp_path: Path, target: str
) -> None:
    made = ws.models.register("trips", bundle)
    written = ws.models.export("trips", tmp_path / target)
    again = import_model(ws.models, written, "again", About(), NO_LEAVE)
    assert again.bundle == made.bundle
    assert files_of(ws.models.bundle("again").folder) == files_of(bundle.folder)


def test_an_export_leaves_what_is_there(ws: Workspace, bundle: Bundle, tmp_path: Path) -> None:
    ws.models.register("trips", bundle)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").write_text("x")
    with pytest.raises(Conflict, match="exists already"):
        ws.models.export("trips", tmp_path / "taken")
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["mine"]
    assert not list(tmp_path.glob(".taken*"))


def test_the_same_bundle_gives_the_same_archive(ws: Workspace, bundle: Bundle, tmp_path: Path) -> None:
    ws.models.register("trips", bundle)
    first, second = (ws.models.export("trips", tmp_path / name).read_bytes() for name in ("1.zip", "2.zip"))
    assert first == second


@pytest.mark.parametrize("name", ["model.onnx", "bundle.json"])
def test_a_changed_byte_in_an_archive_is_refused(ws: Workspace, bundle: Bundle, tmp_path: Path, name: str) -> None:
    changed = files_of(bundle.folder)
    data = bytearray(changed[name])
    data[len(data) // 2] ^= 1
    changed[name] = bytes(data)
    (tmp_path / "bad.zip").write_bytes(zipped(changed))
    with pytest.raises((Corrupt, Invalid)):
        import_model(ws.models, tmp_path / "bad.zip", "trips", About(), NO_LEAVE)
    with pytest.raises(NotFound):
        ws.models.get("trips")


def zipped(files: dict[str, bytes], change: Callable[[zipfile.ZipInfo], object] = lambda info: None) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            change(info)
            archive.writestr(info, data)
    return target.getvalue()


def _link(info: zipfile.ZipInfo) -> None:
    info.external_attr = (stat.S_IFLNK | 0o777) << 16


HOSTILE: dict[str, tuple[bytes, str]] = {
    "climbing": (zipped({"../evil": b"x"}), "not a safe relative path"),
    "absolute": (zipped({"/tmp/evil": b"x"}), "not a safe relative path"),
    "backslash": (zipped({"..\\evil": b"x"}), "not a safe relative path"),
    "a drive": (zipped({"C:evil": b"x"}), "not a safe relative path"),
    "a link": (zipped({"link": b"/etc/passwd"}, _link), "link or a device"),
    "twice": (zipped({"a": b"x", "A": b"y"}), "twice"),
    "a bomb": (zipped({"zeros": b"\0" * (20 << 20)}), "300 times"),
}


@pytest.mark.parametrize("case", sorted(HOSTILE))
def test_a_hostile_archive_is_refused_before_anything_is_written(case: str, tmp_path: Path) -> None:
    data, told = HOSTILE[case]
    folder = tmp_path / "in" / "folder"
    folder.mkdir(parents=True)
    with pytest.raises(Invalid, match=told):
        unpack(io.BytesIO(data), folder)
    assert files_of(tmp_path) == {}


def test_an_archive_that_is_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="at most 1,000"):
        unpack(io.BytesIO(zipped({"a": os.urandom(600), "b": os.urandom(600)})), tmp_path, max_bytes=1000)


def with_a_place_before_its_beginning() -> bytes:
    """The list of files says to lie one byte further on than it does, so the first file begins at -1."""
    data = bytearray(zipped({"a": b"x" * 100}))
    end = data.rindex(b"PK\x05\x06")
    data[end + 16] += 1
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [b"", b"PK\x03\x04", zipped({"a": os.urandom(5000)})[:-400], with_a_place_before_its_beginning()],
    ids=["empty", "begun", "cut", "shifted"],
)
def test_a_broken_archive_is_told_so(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(Corrupt, match="is damaged"):
        unpack(io.BytesIO(data), tmp_path)


@settings(max_examples=examples(60), deadline=None)
@given(st.data())
def test_a_damaged_archive_never_gives_other_files(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    files = {"bundle.json": b'{"a": 1}' * 40, "files/model.bin": bytes(range(256)) * 4}
    damaged = bytearray(zipped(files))
    at = data.draw(st.integers(0, len(damaged) - 1))
    damaged[at] ^= data.draw(st.integers(1, 255))
    folder = tmp_path_factory.mktemp("damaged") / "inside"
    folder.mkdir()
    try:
        unpack(io.BytesIO(bytes(damaged)), folder)
    except LoopwrightError:
        pass
    else:
        assert set(files_of(folder).values()) <= set(files.values())
    assert list(folder.parent.iterdir()) == [folder]


def test_packing_streams_what_cannot_seek(tmp_path: Path) -> None:
    with (tmp_path / "a.zip").open("wb") as target:
        pack([("a/b", io.BytesIO(b"x" * 3_000_000), 3_000_000)], target)
    (tmp_path / "out").mkdir()
    unpack(tmp_path / "a.zip", tmp_path / "out")
    assert (tmp_path / "out" / "a" / "b").stat().st_size == 3_000_000


def evil_graph() -> bytes:
    graph = helper.make_graph(
        [helper.make_node("Evil", ["x"], ["y"], domain="com.example")],
        "evil",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])],
    )
    return helper.make_model(graph).SerializeToString()


def test_a_bundle_from_outside_is_judged_like_any_graph(ws: Workspace, bundle: Bundle, tmp_path: Path) -> None:
    """Its manifest may fit a graph that no converter of ours would have made."""
    from loopwright.core import digest_bytes, encode

    folder = tmp_path / "foreign"
    shutil.copytree(bundle.folder, folder)
    (folder / "model.onnx").write_bytes(evil_graph())
    digests = {**bundle.manifest.files, "model.onnx": digest_bytes(evil_graph())}
    (folder / "bundle.json").write_bytes(encode(sealed(msgspec.structs.replace(bundle.manifest, files=digests))))
    Bundle(folder).verify()
    with pytest.raises(Invalid, match=r"com\.example:Evil"):
        import_model(ws.models, folder, "trips", About(), NO_LEAVE)


def test_a_bundle_with_a_pickle_is_refused_although_its_manifest_names_it(
    ws: Workspace, bundle: Bundle, tmp_path: Path
) -> None:
    import pickle

    from loopwright.core import digest_bytes, encode

    folder = tmp_path / "foreign"
    shutil.copytree(bundle.folder, folder)
    data = pickle.dumps(LogisticRegression())
    (folder / "notes.txt").write_bytes(data)
    digests = {**bundle.manifest.files, "notes.txt": digest_bytes(data)}
    (folder / "bundle.json").write_bytes(encode(sealed(msgspec.structs.replace(bundle.manifest, files=digests))))
    with pytest.raises(Forbidden, match="--allow-pickle"):
        import_model(ws.models, folder, "trips", About(), NO_LEAVE)
    with pytest.raises(Forbidden, match="can run code"):
        ws.models.register("trips", folder)


@pytest.mark.slow
def test_a_skops_file_becomes_a_proved_bundle(ws: Workspace, trips: Trips, tmp_path: Path) -> None:
    import skops.io

    rows = trips.numbers.with_columns(pl.col("wind").fill_null(0.0))
    skops.io.dump(LogisticRegression(max_iter=2000).fit(rows.to_numpy(), trips.late), tmp_path / "model.skops")
    rows.write_parquet(tmp_path / "rows.parquet")
    about = About(sample=tmp_path / "rows.parquet", metrics={"auc": 0.7}, description="From a colleague.")
    made = import_model(ws.models, tmp_path / "model.skops", "trips", about, NO_LEAVE)
    assert made.metrics == {"auc": 0.7}
    assert made.description == "From a colleague."
    assert made.tags == {SOURCE_TAG: "model.skops"}
    assert ws.models.manifest(made.ref).parity.passed


@pytest.mark.slow
def test_a_pickle_that_was_asked_for_says_what_was_found_in_it(ws: Workspace, trips: Trips, tmp_path: Path) -> None:
    import joblib

    rows = trips.numbers.with_columns(pl.col("wind").fill_null(0.0))
    joblib.dump(LogisticRegression(max_iter=2000).fit(rows.to_numpy(), trips.late), tmp_path / "model.joblib")
    rows.write_csv(tmp_path / "rows.csv")
    about = About(sample=tmp_path / "rows.csv")
    with pytest.raises(Forbidden, match="--allow-pickle"):
        import_model(ws.models, tmp_path / "model.joblib", "trips", about, NO_LEAVE)
    made = import_model(ws.models, tmp_path / "model.joblib", "trips", about, Leave(pickle=True))
    assert made.tags[SCAN_TAG].startswith("joblib; scanned with loopwright")
    assert made.tags[SCAN_TAG].endswith("nothing suspicious")


def test_a_graph_without_a_sample_runs_on_made_up_rows(ws: Workspace, tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "x"], ["y"])],
        "square",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 2])],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), str(tmp_path / "square.onnx"))
    told: list[str] = []
    made = import_model(ws.models, tmp_path / "square.onnx", "square", About(), NO_LEAVE, told.append)
    assert "made-up rows" in told[0]
    assert ws.models.manifest(made.ref).signature.names == ("x_0", "x_1")
    assert ws.models.predict("square", pl.DataFrame({"x_0": [3.0], "x_1": [4.0]}))["y"].to_list() == [[9.0, 16.0]]
    assert ws.models.profile("square").rows == 0


@pytest.mark.parametrize("name", ["model.txt", "model.skops"])
def test_what_does_not_say_its_inputs_needs_a_sample(ws: Workspace, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("tree\n")
    with pytest.raises(Invalid, match="--sample FILE"):
        import_model(ws.models, tmp_path / name, "m", About(), NO_LEAVE)
    with pytest.raises(Invalid, match="--sample FILE"):
        rows_for_graph(tmp_path / name)


def test_what_is_not_there_is_not_found(ws: Workspace, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no file or folder"):
        import_model(ws.models, tmp_path / "gone.onnx", "m", About(), NO_LEAVE)


def test_a_bundle_in_a_folder_says_what_it_is(bundle: Bundle, tmp_path: Path) -> None:
    found = inspect_bundle(bundle.folder)
    assert found.version is None
    assert found.manifest == bundle.manifest
    assert {item.path for item in found.files} == {"bundle.json", *bundle.manifest.files}
    assert vouch_for_bundle(bundle.folder).passed
    with pytest.raises(NotFound, match="no bundle"):
        inspect_bundle(tmp_path)


@pytest.mark.slow
def test_the_bill_of_materials_is_valid_and_names_all(ws: Workspace, bundle: Bundle) -> None:
    from cyclonedx.schema import SchemaVersion  # loads for two seconds
    from cyclonedx.validation.json import JsonStrictValidator

    made = ws.models.register("trips", bundle, metrics={"auc": 0.8}, training_data=["dataset:trips@1"])
    told = ws.models.sbom(made.ref)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(msgspec.json.encode(told).decode()) is None
    model = told["metadata"]["component"]
    assert model["type"] == "machine-learning-model"
    assert model["hashes"] == [{"alg": "BLAKE3", "content": made.bundle}]
    assert {item["name"] for item in model["components"]} == {"bundle.json", *bundle.manifest.files}
    assert model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"] == [{"type": "auc", "value": "0.8"}]
    kinds = {item["name"]: item["type"] for item in told["components"]}
    assert kinds["trips"] == "data"
    assert kinds["scikit-learn"] == "library"
    assert ws.models.sbom(made.ref) == told


def test_the_card_tells_limits_and_signatures(ws: Workspace, bundle: Bundle) -> None:
    ws.models.register("trips", bundle, description="Written by **us**.")
    card = ws.models.card("trips")
    assert "Written by **us**." in card
    assert "- It has learnt nothing of values outside of those seen in training" in card
    assert "## Signatures\n\nNone." in card


def test_an_inspection_tells_files_and_lineage(ws: Workspace, bundle: Bundle) -> None:
    made = ws.models.register("trips", bundle)
    found = ws.models.inspect("trips")
    assert found.version == made
    assert {item.path for item in found.files} == {"bundle.json", *bundle.manifest.files}
    assert ("dataset:trips@1", made.ref) in {(edge.source, edge.target) for edge in found.lineage}
    assert np.isclose(found.manifest.parity.tolerance if found.manifest else 0, 1e-4)


def test_an_empty_file_is_no_model(ws: Workspace, tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(Invalid, match="takes no inputs"):
        import_model(ws.models, tmp_path / "empty.onnx", "empty", About(), NO_LEAVE)
