"""Images written without an engine: the same bytes each time, every blob what its name says, nothing that escapes."""

from __future__ import annotations

import gzip
import hashlib
import io
import platform
import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.serve.conftest import adding_bundle

from loopwright.core import Conflict, Corrupt, Invalid, NotFound
from loopwright.models import Bundle
from loopwright.serve.containers import ImageReport, write_context, write_image
from loopwright.serve.containers.runtime import Runtime

pytestmark = pytest.mark.slow
PYTHON = f"python3.{sys.version_info.minor}"


@pytest.fixture(scope="module")
def adding(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return adding_bundle(1.0, tmp_path_factory.mktemp("bundles") / "adding")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system that has the right interpreter, by name."""
    root = tmp_path_factory.mktemp("base")
    (root / "usr" / "bin").mkdir(parents=True)
    (root / "usr" / "bin" / PYTHON).write_bytes(b"#!")
    (root / "usr" / "bin" / PYTHON).chmod(0o755)
    (root / "usr" / "bin" / "python3").symlink_to(PYTHON)
    return root


@pytest.fixture(scope="module")
def image(adding: Bundle, base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ImageReport]:
    target = tmp_path_factory.mktemp("images") / "image"
    return target, written(adding, target, base)


def written(bundle: Bundle, target: Path, base: Path, **more: Any) -> ImageReport:
    return write_image(bundle, target, base, name="adder", ref="model:adder@1", digest="ab" * 32, **more)


def lightly(bundle: Bundle, target: Path, base: Path, **more: Any) -> ImageReport:
    """The same with one small package, where the packages do not matter."""
    few = Runtime({"httptools": version("httptools")}, PYTHON.removeprefix("python"), platform.machine())
    return written(bundle, target, base, runtime=few, **more)


def blob(layout: Path, digest: str) -> bytes:
    return (layout / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_bytes()


def parts(layout: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The manifest and the configuration of the one image."""
    [named] = msgspec.json.decode((layout / "index.json").read_bytes())["manifests"]
    manifest = msgspec.json.decode(blob(layout, named["digest"]))
    return manifest, msgspec.json.decode(blob(layout, manifest["config"]["digest"]))


def test_every_blob_is_what_its_name_says_and_every_layer_unpacks_to_its_digest(
    image: tuple[Path, ImageReport],
) -> None:
    layout, _ = image
    for path in (layout / "blobs" / "sha256").iterdir():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    manifest, config = parts(layout)
    assert len(manifest["layers"]) == 3
    for layer, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
        data = blob(layout, layer["digest"])
        assert len(data) == layer["size"]
        assert f"sha256:{hashlib.sha256(gzip.decompress(data)).hexdigest()}" == diff_id


def test_the_same_inputs_give_the_same_bytes(adding: Bundle, base: Path, tmp_path: Path) -> None:
    first, again = lightly(adding, tmp_path / "first", base), lightly(adding, tmp_path / "again", base)
    assert again.digest == first.digest


def test_the_container_is_without_rights_healthy_and_labelled(image: tuple[Path, ImageReport]) -> None:
    _, config = parts(image[0])
    inner = config["config"]
    assert inner["User"] == "65532:65532"
    assert inner["Entrypoint"][:4] == [f"/usr/bin/{PYTHON}", "-m", "loopwright", "serve"]
    assert inner["Labels"]["io.loopwright.model"] == "model:adder@1"
    assert inner["Labels"]["io.loopwright.bundle"] == "ab" * 32
    assert "onnxruntime==" in inner["Labels"]["io.loopwright.packages"]
    assert inner["Healthcheck"]["Test"][0] == "CMD"


def test_the_packages_are_those_that_serving_needs_and_name_no_place_of_this_machine(
    image: tuple[Path, ImageReport],
) -> None:
    layout, report = image
    assert {"numpy", "onnxruntime", "msgspec", "httptools"} <= report.packages.keys()
    assert not {"pytest", "scikit-learn", "lightgbm", "polars", "sqlalchemy"} & {
        name.lower() for name in report.packages
    }
    manifest, _ = parts(layout)
    with tarfile.open(fileobj=io.BytesIO(blob(layout, manifest["layers"][1]["digest"]))) as archive:
        names = archive.getnames()
        assert "opt/loopwright/loopwright/serve/process.py" in names
        assert not [name for name in names if "__pycache__" in name or name.startswith("/") or ".." in name]
        assert {entry.mtime for entry in archive} == {0}
        assert {entry.uid for entry in archive} == {0}


def test_the_packages_and_the_model_of_the_image_answer_by_themselves(
    image: tuple[Path, ImageReport], tmp_path: Path
) -> None:
    layout, _ = image
    manifest, _ = parts(layout)
    for layer in manifest["layers"][1:]:
        with tarfile.open(fileobj=io.BytesIO(blob(layout, layer["digest"]))) as archive:
            archive.extractall(tmp_path, filter="data")
    code = "import sys; from loopwright.models import Bundle; b = Bundle(__import__('pathlib').Path(sys.argv[1])); "
    code += "print(b.predictor().predict_rows([[2.0]])['value'].tolist(), b.__class__.__module__)"
    command = [sys.executable, "-S", "-c", code, str(tmp_path / "model")]
    environment = {"PYTHONPATH": str(tmp_path / "opt" / "loopwright"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[3.0] loopwright.models.bundle", done.stderr


@pytest.mark.skipif(not (shutil.which("skopeo") and shutil.which("umoci")), reason="needs skopeo and umoci")
def test_other_tools_take_the_layout(image: tuple[Path, ImageReport], tmp_path: Path) -> None:
    layout, report = image
    told = subprocess.run(
        ["skopeo", "inspect", f"oci:{layout}:latest"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert msgspec.json.decode(told.stdout)["Digest"] == report.digest
    subprocess.run(
        ["umoci", "unpack", "--rootless", "--image", f"{layout}:latest", str(tmp_path / "out")],
        capture_output=True,
        check=True,
    )
    assert (tmp_path / "out" / "rootfs" / "model" / "bundle.json").is_file()


def test_an_image_can_be_the_base_of_another_one(
    image: tuple[Path, ImageReport], adding: Bundle, tmp_path: Path
) -> None:
    lightly(adding, tmp_path / "next", image[0])
    manifest, config = parts(tmp_path / "next")
    assert len(manifest["layers"]) == len(config["rootfs"]["diff_ids"]) == 5


def test_bases_that_do_not_fit_are_refused_and_leave_nothing(
    image: tuple[Path, ImageReport], adding: Bundle, base: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    (other / "usr" / "bin").mkdir(parents=True)
    (other / "usr" / "bin" / "python3.7").write_bytes(b"")
    with pytest.raises(Invalid, match=r"no Python 3\.\d+ \(it has 3\.7\)"):
        lightly(adding, tmp_path / "a", other)
    with pytest.raises(NotFound, match="no base image"):
        lightly(adding, tmp_path / "a", tmp_path / "gone")
    (tmp_path / "text").write_text("no archive")
    with pytest.raises(Invalid, match="no archive"):
        lightly(adding, tmp_path / "a", tmp_path / "text")
    damaged = tmp_path / "damaged"
    shutil.copytree(image[0], damaged)
    manifest, _ = parts(damaged)
    broken = damaged / "blobs" / "sha256" / manifest["layers"][0]["digest"].removeprefix("sha256:")
    broken.write_bytes(broken.read_bytes() + b"!")
    with pytest.raises(Corrupt, match="not what its name says"):
        lightly(adding, tmp_path / "a", damaged)
    with pytest.raises(Invalid, match="no tag"):
        lightly(adding, tmp_path / "a", base, tag="a b")
    with pytest.raises(Conflict, match="there already"):
        lightly(adding, base, base)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged", "other", "text"]


def test_a_dockerfile_is_pinned_and_quotes_what_it_holds(adding: Bundle, tmp_path: Path) -> None:
    made = write_context(adding, tmp_path / "context", name="adder", ref='model:a"$x@1', digest="d")
    lines = (made / "Dockerfile").read_text().splitlines()
    assert 'LABEL io.loopwright.model="model:a\\"\\$x@1"' in lines
    assert "USER 65532:65532" in lines
    assert lines[-1].startswith('ENTRYPOINT ["/usr/local/bin/python3", "-m", "loopwright", "serve"')
    wanted = (made / "requirements.txt").read_text().splitlines()
    assert all("==" in line for line in wanted)
    assert any(line.startswith("loopwright==") for line in wanted)
    Bundle(made / "bundle").verify()
    for text in ("a\nRUN evil", "a b"):
        with pytest.raises(Invalid, match="names no image"):
            write_context(adding, tmp_path / "other", name="adder", ref="m", digest="d", base=text)
    with pytest.raises(Invalid, match="line break"):
        write_context(adding, tmp_path / "other", name="adder", ref="m\nRUN evil", digest="d")
