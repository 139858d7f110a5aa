"""What a run ran on is captured: source files, git state, environment, hardware."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from loopwright.pipeline.capture import capture_run, git_state, source_files, this_hardware
from loopwright.pipeline.environment import Environment, current_environment, environment_moves, installed
from loopwright.store import ObjectStore, open_objects, read_file, read_tree


@pytest.fixture
def objects(tmp_path: Path) -> ObjectStore:
    return open_objects(str(tmp_path / "objects"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


def git(root: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True)


def fill(root: Path) -> None:
    for path, text in {
        "flow.py": "x = 1\n",
        "deep/rules.yaml": "a: 1\n",
        "data.csv": "a,b\n",
        ".hidden/secret.py": "x\n",
        ".loopwright/x.py": "x\n",
        "node_modules/a.json": "{}\n",
        "big.json": "x" * (3 << 20),
        "model.bin": "x",
    }.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def test_source_files_are_code_and_settings_that_are_not_too_large(root: Path) -> None:
    fill(root)
    (root / "link.py").symlink_to(root / "flow.py")
    found = source_files(root)
    assert (found.paths, found.left_out) == (("deep/rules.yaml", "flow.py"), ("big.json",))


def test_what_git_ignores_is_left_out_and_what_is_new_is_not(root: Path) -> None:
    fill(root)
    git(root, "init", "-q")
    (root / ".gitignore").write_text("ignored.py\n")
    (root / "ignored.py").write_text("x\n")
    git(root, "add", "flow.py")
    assert source_files(root).paths == ("deep/rules.yaml", "flow.py")


def test_without_git_there_is_no_commit(root: Path) -> None:
    assert git_state(root) == ("", b"")


def test_a_commit_is_captured_with_the_changes_since_it(root: Path, objects: ObjectStore) -> None:
    fill(root)
    git(root, "init", "-q")
    git(root, "add", "flow.py", "data.csv")
    git(root, "commit", "-qm", "first")
    clean = capture_run(objects, root, 3)
    assert (len(clean.git_commit), clean.git_dirty, clean.git_diff, clean.seed) == (40, False, "", 3)
    (root / "flow.py").write_text("x = 'ü'\n")
    (root / "data.csv").write_bytes(b"\xff\xfe not text")
    dirty = capture_run(objects, root, 3)
    assert (dirty.git_commit, dirty.git_dirty) == (clean.git_commit, True)
    assert dirty.code != clean.code
    diff = objects.get(dirty.git_diff)
    assert b"-x = 1\n+x = '\xc3\xbc'\n" in diff
    (root / "flow.py").write_text("x = 1\n")
    (root / "data.csv").write_text("a,b\n")
    subprocess.run(["git", "-C", str(root), "apply", "-"], input=diff, check=True)
    assert (root / "data.csv").read_bytes() == b"\xff\xfe not text"


def test_the_source_tree_can_be_read_back_and_has_one_digest(root: Path, objects: ObjectStore) -> None:
    fill(root)
    first = capture_run(objects, root, 0)
    assert read_file(objects, first.code, "deep/rules.yaml") == b"a: 1\n"
    assert [entry.path for entry in read_tree(objects, first.code).entries] == ["deep/rules.yaml", "flow.py"]
    assert first.left_out == ("big.json",)
    (root / "data.csv").write_text("other data\n")
    assert capture_run(objects, root, 0).code == first.code


def test_an_empty_project_has_no_code(root: Path, objects: ObjectStore) -> None:
    assert (capture_run(objects, root, 0).code, capture_run(objects, root, 0).files) == ("", 0)


def test_the_environment_names_what_is_installed(objects: ObjectStore, root: Path) -> None:
    from importlib.metadata import version

    found = current_environment()
    for name in ("polars", "msgspec", "scikit-learn"):
        assert found.packages[name] == version(name)
    assert objects.get(capture_run(objects, root, 0).environment) == found.lock()


def test_distributions_are_read_from_their_folders(tmp_path: Path) -> None:
    for name in ("A_b-1.0.dist-info", "a_b-2.0.dist-info", "old-0.1.egg-info", "noise.txt", "c-1.0"):
        (tmp_path / "one" / name).mkdir(parents=True)
    (tmp_path / "two" / "A.b_c-3.dist-info").mkdir(parents=True)
    found = installed([str(tmp_path / "one"), str(tmp_path / "two"), str(tmp_path / "missing")])
    assert found.keys() == {"a-b", "old", "a.b-c"}
    assert found["old"] == "0.1"


def test_moves_of_an_environment_are_named() -> None:
    before = Environment("3.11.7", "CPython", "Linux", "x86_64", {"polars": "1.0", "gone": "1", "same": "1"})
    now = Environment("3.12.1", "CPython", "Linux", "x86_64", {"polars": "2.0", "new": "1", "same": "1"})
    assert environment_moves(before, before) == []
    assert environment_moves(before, now) == [
        "python: CPython 3.11.7 → CPython 3.12.1",
        "package gone: 1 → absent",
        "package new: absent → 1",
        "package polars: 1.0 → 2.0",
    ]
    assert before.digest != now.digest


def test_the_machine_has_cores_and_memory() -> None:
    found = this_hardware()
    assert found.cores >= 1
    assert found.memory_bytes > 1 << 28
    assert found.machine
