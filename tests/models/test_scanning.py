"""What a model's files would run is found by reading them; nothing in them ever runs."""

from __future__ import annotations

import bz2
import gzip
import io
import os
import pickle
import pickletools
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightgbm import LGBMRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from loopwright.core import Forbidden, Invalid
from loopwright.models.findings import Level, Scan
from loopwright.models.pickles import read_pickles
from loopwright.models.saved_model import needless_operators
from loopwright.models.scanning import formats_by_name, refuse_code, scan


class Runs:
    """An object whose pickle calls a function when it is loaded."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.arguments


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file that every attack here would make; nothing may ever make it."""
    return tmp_path / "it ran"


@pytest.fixture(autouse=True)
def nothing_ran(marker: Path) -> Any:
    yield
    assert not marker.exists()


def short(text: str) -> bytes:
    return b"\x8c" + bytes([len(text.encode())]) + text.encode()


def attacks(command: str) -> dict[str, bytes]:
    """Pickles that run a command, each by other opcodes."""
    call = b"(S'" + command.encode() + b"'\ntR."
    text = short(command)
    made = {
        f"protocol {number}": pickle.dumps([{"a": Runs(os.system, command)}], protocol=number) for number in range(6)
    }
    made |= {
        "global": b"cos\nsystem\n" + call,
        "inst": b"(S'" + command.encode() + b"'\nios\nsystem\n.",
        "obj": b"(cos\nsystem\nS'" + command.encode() + b"'\no.",
        "newobj": b"\x80\x02cos\nsystem\n" + text + b"\x85\x81.",
        "newobj_ex": b"\x80\x04cos\nsystem\n" + text + b"\x85}\x92.",
        "names from the memo": b"\x80\x04"
        + short("os")
        + b"\x94"
        + short("system")
        + b"\x940h\x00h\x01\x93"
        + text
        + b"\x85R.",
        "names by dup and pop": b"\x80\x04"
        + short("posix")
        + b"2"
        + b"0"
        + short("system")
        + b"\x93"
        + text
        + b"\x85R.",
        "eval": b'cbuiltins\neval\n(S\'__import__("os").system("' + command.encode() + b"\")'\ntR.",
        "getattr": b"cbuiltins\ngetattr\n(cos\npath\nS'os'\ntR.",
        "through a library": b"\x80\x04" + short("sklearn.base") + short("warnings.sys.modules") + b"\x93.",
        "dotted name": b"\x80\x04" + short("numpy") + short("os.system") + b"\x93" + text + b"\x85R.",
        "a partial": pickle.dumps(Runs(__import__("functools").partial, print)),
        "extension registry": b"\x80\x02\x82\x01)R.",
        "after the first stop": pickle.dumps({"weights": [1.0, 2.0]}) + b"cos\nsystem\n" + call,
        "cut off after the call": (b"cos\nsystem\n" + call)[:-1],
        "rubbish behind the call": (b"cos\nsystem\n" + call)[:-1] + b"\xff\xff",
    }
    return made


def dangerous(found: Scan) -> bool:
    return found.worst is Level.DANGEROUS


@pytest.mark.parametrize("name", sorted(attacks("true")))
def test_every_way_to_run_a_command_is_found(name: str, marker: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(attacks(f"touch '{marker}'")[name])
    assert dangerous(scan(path)), scan(path)
    with pytest.raises(Forbidden, match="what no model needs"):
        refuse_code(scan(path), "model.pkl", allow_pickle=True)


def _zip(data: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/data/0", b"\0" * 64)
    return target.getvalue()


def _tar(data: bytes) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        info = tarfile.TarInfo("pickle")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return target.getvalue()


def _array(data: bytes) -> bytes:
    """An .npy file of objects around a pickle."""
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    header += b" " * (117 - len(header)) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


PACKINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "a name that says nothing": ("weights.dat", lambda data: data),
    "PyTorch's zip": ("model.pt", _zip),
    "a zip in a zip": ("model.zip", lambda data: _zip(_zip(data))),
    "PyTorch's tar": ("model.pth", _tar),
    "gzip": ("model.joblib", gzip.compress),
    "zlib": ("model.joblib", zlib.compress),
    "bz2": ("model.joblib", bz2.compress),
    "a gzipped tar": ("model.tgz", lambda data: gzip.compress(_tar(data))),
    "an array of objects": ("weights.npy", _array),
    "an archive of arrays": ("weights.npz", lambda data: _zip(_array(data))),
    "before a zip": ("model.pt", lambda data: data + _zip(b"nothing")),
}


@pytest.mark.parametrize("packing", sorted(PACKINGS))
def test_an_attack_is_found_wherever_it_is_packed(packing: str, marker: Path, tmp_path: Path) -> None:
    name, pack = PACKINGS[packing]
    path = tmp_path / name
    path.write_bytes(pack(attacks(f"touch '{marker}'")["protocol 4"]))
    assert dangerous(scan(path)), scan(path)


def test_an_attack_among_the_arrays_of_joblib_is_found(marker: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.joblib"
    evil = np.array([Runs(os.system, f"touch '{marker}'"), 1], dtype=object)
    joblib.dump({"weights": np.arange(1000.0), "names": evil, "more": np.arange(3)}, path)
    assert dangerous(scan(path))


def test_a_pickle_where_joblib_would_keep_numbers_is_found(marker: Path, tmp_path: Path) -> None:
    """The flags of a type, which a pickle can set, turn numbers into a pickle; the bytes are judged as both."""
    path = tmp_path / "model.joblib"
    attack = attacks(f"touch '{marker}'")["protocol 4"]
    joblib.dump(np.frombuffer(attack + b"\0" * 64, dtype="u1"), path)
    data = path.read_bytes()
    at = data.index(attack)
    padding = data.rindex(bytes([at - data.rindex(b"b", 0, at) - 2]), 0, at)  # joblib's byte that counts the padding
    path.write_bytes(data[:padding] + attack + data[padding + len(attack) :])
    assert dangerous(scan(path))


def _models() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 4))
    label = (rows[:, 0] > 0).astype(int)
    return {
        "forest": make_pipeline(StandardScaler(), RandomForestClassifier(3)).fit(rows, label),
        "boosting": HistGradientBoostingClassifier(max_iter=3).fit(rows, label),
        "lightgbm": LGBMRegressor(n_estimators=3, verbose=-1).fit(rows, label),
        "words": TfidfVectorizer().fit(["a few words", "of a text"]),
    }


@pytest.mark.parametrize("name", ["forest", "boosting", "lightgbm", "words"])
@pytest.mark.parametrize("compress", [0, 3], ids=["plain", "compressed"])
def test_an_honest_model_is_told_from_an_attack(name: str, compress: int, tmp_path: Path) -> None:
    model = _models()[name]
    joblib.dump(model, tmp_path / "model.joblib", compress=compress)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(model))
    found = scan(tmp_path)
    assert found.executable == ("joblib", "pickle")
    assert not dangerous(found), found.of(Level.DANGEROUS)
    assert {"loopwright", "picklescan"} == found.tools.keys()
    refuse_code(found, "the model", allow_pickle=True)


def test_code_is_refused_unless_it_is_asked_for_by_name(tmp_path: Path) -> None:
    joblib.dump(_models()["words"], tmp_path / "model.joblib")
    with pytest.raises(Forbidden, match=r"joblib.*--allow-pickle"):
        refuse_code(scan(tmp_path), "model.joblib")


def test_a_name_that_nobody_knows_is_left_to_a_person(tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(b"cteam.models\nOurs\n)\x81.")
    found = scan(tmp_path)
    assert [(item.what, item.level) for item in found.findings] == [("team.models.Ours", Level.SUSPICIOUS)]


def test_formats_without_code_pass(tmp_path: Path) -> None:
    np.savez(tmp_path / "weights.npz", x=np.arange(10.0), y=np.array(["a", "b"]))
    (tmp_path / "model.onnx").write_bytes(b"\x08\x0a" + os.urandom(2000))
    (tmp_path / "model.txt").write_text("tree\nversion=v4\nNone of this is code.\n")
    (tmp_path / "model.json").write_text('{"learner": {}}')
    (tmp_path / "empty").write_bytes(b"")
    assert scan(tmp_path) == Scan()


@pytest.mark.parametrize("layer", ["Lambda", "TFOpLambda"])
def test_a_keras_layer_of_code_is_found(layer: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("config.json", f'{{"layers": [{{"class_name": "{layer}", "config": {{}}}}]}}')
    (tmp_path / "old.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * (1 << 20) + f'"class_name": "{layer}"'.encode())
    found = scan(tmp_path)
    assert found.executable == ("Keras Lambda",)
    assert [item.file for item in found.findings] == ["model.keras!config.json", "old.h5"]


def test_native_code_and_python_sources_are_told_of(tmp_path: Path) -> None:
    (tmp_path / "custom.so").write_bytes(b"\x7fELF" + b"\0" * 100)
    (tmp_path / "model.py").write_text("print(1)")
    assert scan(tmp_path).executable == ("Python source", "native code")
    (tmp_path / "custom.so").unlink()
    with pytest.raises(Forbidden, match="--allow-code"):
        refuse_code(scan(tmp_path), "the folder", allow_pickle=True)
    refuse_code(scan(tmp_path), "the folder", allow_code=True)


def test_an_archive_that_swells_beyond_bounds_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bomb.joblib").write_bytes(zlib.compress(b"\0" * (100 << 20), 9))
    with pytest.raises(Invalid, match="300 times"):
        scan(tmp_path)


def test_archives_nested_without_end_are_refused(tmp_path: Path) -> None:
    data = b"x"
    for _ in range(8):
        data = _zip(data)
    (tmp_path / "deep.zip").write_bytes(data)
    with pytest.raises(Invalid, match="nested"):
        scan(tmp_path)


@pytest.mark.slow
def test_a_large_file_is_read_in_little_memory(tmp_path: Path) -> None:
    """A pickle may state a length of gigabytes; what is not a name is stepped over."""
    import tracemalloc

    path = tmp_path / "model.pkl"
    size = 300 << 20
    with path.open("wb") as file:
        file.write(b"\x80\x04\x8e" + struct.pack("<Q", size))
        file.seek(size, 1)
        file.write(b"0" + attacks("true")["global"])
    (tmp_path / "lies.pkl").write_bytes(b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"x" * 100)
    tracemalloc.start()
    found = scan(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [item.what for item in found.of(Level.DANGEROUS)] == ["os.system"]
    assert any("lies.pkl" in item.file and "cannot be read" in item.what for item in found.findings)
    assert peak < 100 << 20


def _message(*fields: tuple[int, bytes]) -> bytes:
    """A message of Protocol Buffers: each field holds bytes."""
    return b"".join(bytes([number << 3 | 2, len(data)]) + data for number, data in fields)


@pytest.mark.parametrize("place", ["graph", "function"])
@pytest.mark.parametrize("operator", ["WriteFile", "PyFuncStateless", "TFRecordDatasetV2", "RpcCall"])
def test_a_saved_model_that_reaches_outside_is_found_and_refused(operator: str, place: str, tmp_path: Path) -> None:
    node = _message((1, b"name"), (2, operator.encode()))
    graph = _message((1, node)) if place == "graph" else _message((2, _message((1, _message((3, node))))))
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01" + _message((2, _message((2, graph)))))
    found = scan(tmp_path)
    assert [(item.what.split(":")[0], item.level) for item in found.findings] == [
        (f"the operator {operator}", Level.DANGEROUS)
    ]
    with pytest.raises(Forbidden, match="what no model needs"):
        refuse_code(found, "model")


@given(st.binary(max_size=200))
def test_any_bytes_of_a_saved_model_are_read_or_refused(data: bytes) -> None:
    refusal = ""
    try:
        assert needless_operators(data) == []
    except Invalid as error:
        refusal = str(error)
    assert not refusal or "damaged" in refusal


def test_what_every_saved_model_holds_is_no_finding(tmp_path: Path) -> None:
    nodes = [(1, _message((2, name))) for name in (b"SaveV2", b"RestoreV2", b"MergeV2Checkpoints", b"ShardedFilename")]
    (tmp_path / "saved_model.pb").write_bytes(_message((2, _message((2, _message(*nodes))))))
    assert scan(tmp_path) == Scan()


def test_names_alone_tell_what_an_mlflow_folder_holds() -> None:
    assert formats_by_name(["MLmodel", "model.pkl", "python_env.yaml"]) == ("pickle",)
    assert formats_by_name(["model.onnx", "data.bin"]) == ()


@given(st.binary(max_size=300))
def test_reading_any_bytes_ends_and_says_whether_it_was_a_pickle(data: bytes) -> None:
    found = read_pickles(io.BytesIO(data))
    assert found.pickles or found.fault or not data


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
        max_leaves=20,
    ),
    st.integers(0, 5),
)
def test_plain_values_are_read_to_their_end_and_use_nothing(value: Any, protocol: int) -> None:
    data = pickle.dumps(value, protocol)
    if protocol < 3 and b"_codecs" in data:  # bytes have no form of their own before protocol 3
        return
    assert read_pickles(io.BytesIO(data)) == read_pickles(io.BytesIO(pickletools.optimize(data)))
    found = read_pickles(io.BytesIO(data))
    assert (found.pickles, found.fault) == (1, "")
    assert all(str(item) in ("builtins.bytearray", "__builtin__.bytes", "__builtin__.bytearray") for item in found.used)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a pipe with a name is made on POSIX only")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.onnx")
    with pytest.raises(Invalid, match="neither a file nor a folder"):
        scan(tmp_path / "model.onnx")
