"""What is written for other servers; that those serve it is proved in tests/interop/triton and mlserver."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from tests.cli.test_commands import run_here
from tests.serve.conftest import adding_bundle
from tests.serve.edge.conftest import Network

from loopwright.core import Invalid
from loopwright.models import Bundle, build_bundle
from loopwright.serve.edge.hosts.triton import config_of
from loopwright.serve.edge.standalone import EdgeModel

pytestmark = pytest.mark.slow


def test_a_repository_of_triton_tells_the_signature(bundle: Bundle, tmp_path: Path) -> None:
    told = run_here("export", "triton", str(bundle.folder), str(tmp_path / "out"), "--name", "late", "--json")
    assert (told.code, told.json()["path"]) == (0, str(tmp_path / "out"))
    assert sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")) == [
        "late/1/bundle.json",
        "late/1/bundle.py",
        "late/1/model.onnx",
        "late/1/model.py",
        "late/1/report.json",
        "late/config.pbtxt",
        "requirements.txt",
    ]
    lines = (tmp_path / "out" / "late" / "config.pbtxt").read_text().splitlines()
    assert lines[:3] == ['name: "late"', 'backend: "python"', "max_batch_size: 0"]
    assert '  { name: "carrier", data_type: TYPE_STRING, dims: [-1] },' in lines
    joined = config_of(bundle, "late", 32).splitlines()
    assert '  { name: "carrier", data_type: TYPE_STRING, dims: [1] },' in joined
    assert joined[-1] == "dynamic_batching { }"


def test_a_name_cannot_break_out_of_the_configuration(tmp_path: Path) -> None:
    told = adding_bundle(1.0, tmp_path / "quoted", second='a", data_type: "\\')
    assert r'{ name: "a\", data_type: \"\\", data_type: TYPE_FP' in config_of(told, "m", 0)
    rows = pl.DataFrame({"x": [1.0, 2.0]})
    with pytest.raises(Invalid, match="control character"):
        config_of(build_bundle(_identity("a\nb"), rows.rename({"x": "a\nb"}), folder=tmp_path / "b"), "m", 0)
    with pytest.raises(Invalid, match="not 1,048,577"):
        config_of(told, "m", (1 << 20) + 1)


def test_a_folder_of_mlserver_tells_the_signature_and_names_its_module_by_itself(
    network: Network, tmp_path: Path
) -> None:
    modules = []
    for name, precision in (("one", "none"), ("two", "int8"), ("three", "none")):
        told = run_here(
            "export",
            "mlserver",
            str(network.bundle.folder),
            str(tmp_path / name),
            "--name",
            name,
            "--precision",
            precision,
        )
        assert told.code == 0, told.err
        settings = json.loads((tmp_path / name / "model-settings.json").read_bytes())
        module, _, runtime = settings["implementation"].partition(".")
        assert runtime == "Runtime"
        assert (tmp_path / name / f"{module}.py").is_file()
        assert settings["inputs"][0] == {"name": "f0", "datatype": "FP64", "shape": [-1]}
        modules.append(module)
    assert len(set(modules)) == 3
    assert EdgeModel(tmp_path / "two").predict(network.rows[:3].to_dicts())["label"].shape == (3,)


def test_what_misses_its_comparison_leaves_the_report_alone(network: Network, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("f0\n1\n")
    for host in ("triton", "mlserver"):
        refused = run_here("export", host, str(network.bundle.folder), str(tmp_path / "out"), "--name", "../up")
        assert (refused.code, "'../up'" in refused.err) == (2, True)
        rows = str(tmp_path / "rows.csv")
        refused = run_here("export", host, str(network.bundle.folder), str(tmp_path / "out"), "--rows", rows)
        assert refused.code == 2, refused.err
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


def _identity(name: str) -> object:
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info(name, TensorProto.FLOAT, [None])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])
    graph = helper.make_graph([helper.make_node("Identity", [name], ["y"])], "identity", [value], [out])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
