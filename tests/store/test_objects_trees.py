"""Trees: what goes in comes out, packed or not; nothing half-written; nothing outside the folder."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.examples import examples
from tests.servers_bytes import S3Place

from loopwright.core import Conflict, Corrupt, Invalid, NotFound, encode, new_id
from loopwright.store.objects import (
    FolderStore,
    Tree,
    TreeEntry,
    checkout,
    open_objects,
    put_tree,
    put_tree_entries,
    read_file,
    read_tree,
    tree_content,
)
from loopwright.store.objects import trees as trees_module


@pytest.fixture
def objects(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "objects")


def folder_of(root: Path, files: dict[str, bytes]) -> Path:
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


def files_of(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


FILES = {"a.txt": b"one", "sub/b.txt": b"two", "sub/deep/large.bin": os.urandom(300_000), "empty": b""}

names = st.text("abcXYZ0-_. é", min_size=1, max_size=6).filter(lambda name: name not in {".", ".."})
trees = st.dictionaries(
    st.lists(names, min_size=1, max_size=3).map("/".join),
    st.one_of(st.binary(max_size=50), st.integers(0, 255).map(lambda n: bytes([n]) * 70_000)),
    max_size=12,
).filter(lambda files: not any(other.startswith(path + "/") for path in files for other in files))


@settings(max_examples=examples(60), deadline=None)
@given(trees)
def test_a_tree_comes_back_as_it_went_in(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    root = tmp_path_factory.mktemp("tree")
    objects = FolderStore(root / "objects")
    (root / "in").mkdir()
    by_folder = put_tree(objects, folder_of(root / "in", files))
    assert by_folder == put_tree_entries(objects, files)
    checkout(objects, by_folder, root / "out")
    assert files_of(root / "out") == files
    assert {path: read_file(objects, by_folder, path) for path in files} == files


@settings(max_examples=examples(40), deadline=None)
@given(trees, trees)
def test_equal_content_has_one_digest_whatever_packs_it_lies_in(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], earlier: dict[str, bytes]
) -> None:
    objects = FolderStore(tmp_path_factory.mktemp("tree"))
    fresh = put_tree_entries(objects, files)
    reused = put_tree_entries(objects, files, previous=put_tree_entries(objects, earlier))
    assert tree_content(read_tree(objects, fresh)) == tree_content(read_tree(objects, reused))
    assert {path: read_file(objects, reused, path) for path in files} == files


@pytest.mark.slow
def test_small_files_share_packs(objects: FolderStore, tmp_path: Path) -> None:
    files = {f"{number // 100}/{number}.json": os.urandom(2000) for number in range(3000)}
    digest = put_tree(objects, folder_of(tmp_path / "in", files))
    assert len(list(objects.iterate())) < 20
    checkout(objects, digest, tmp_path / "out")
    assert files_of(tmp_path / "out") == files


@pytest.mark.slow
def test_one_changed_file_adds_one_pack_of_its_size(objects: FolderStore, tmp_path: Path) -> None:
    files = {f"{number}.json": os.urandom(2000) for number in range(3000)}
    folder = folder_of(tmp_path / "in", files)
    first = put_tree(objects, folder)
    before = {stat.digest for stat in objects.iterate()}
    (folder / "17.json").write_bytes(b"changed")
    second = put_tree(objects, folder, previous=first)
    added = [stat.size_bytes for stat in objects.iterate() if stat.digest not in before]
    assert sorted(added)[0] == 7
    assert len(added) == 2  # the pack and the manifest
    assert read_file(objects, second, "17.json") == b"changed"
    assert read_file(objects, first, "17.json") == files["17.json"]


def test_without_an_earlier_state_one_changed_file_changes_one_pack(objects: FolderStore) -> None:
    files: dict[str, bytes | Path] = {f"{number:05}": os.urandom(4000) for number in range(4000)}
    put_tree_entries(objects, files)
    before = {stat.digest for stat in objects.iterate()}
    put_tree_entries(objects, {**files, "00017": b"changed"})
    added = [stat for stat in objects.iterate() if stat.digest not in before]
    assert len(added) <= 3  # the pack (two, if a boundary moved) and the manifest


def test_equal_files_are_kept_once(objects: FolderStore) -> None:
    digest = put_tree_entries(
        objects, {"a": b"same" * 100, "b": b"same" * 100, "c": b"x" * 100_000, "d": b"x" * 100_000}
    )
    assert sorted(stat.size_bytes for stat in objects.iterate())[:2] == [400, min(100_000, _manifest(objects, digest))]
    assert read_file(objects, digest, "b") == b"same" * 100


def test_only_what_is_included_is_kept(objects: FolderStore, tmp_path: Path) -> None:
    digest = put_tree(objects, folder_of(tmp_path, FILES), include=lambda path: path.endswith(".txt"))
    assert [entry.path for entry in read_tree(objects, digest).entries] == ["a.txt", "sub/b.txt"]


def test_programs_stay_programs(objects: FolderStore, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", {"run.sh": b"#!/bin/sh\n", "data": b"x"})
    (folder / "run.sh").chmod(0o755)
    checkout(objects, put_tree(objects, folder), tmp_path / "out")
    assert os.access(tmp_path / "out" / "run.sh", os.X_OK)
    assert not os.access(tmp_path / "out" / "data", os.X_OK)


def test_links_to_files_are_followed_and_others_refused(objects: FolderStore, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", {"a": b"one"})
    (folder / "link").symlink_to(folder / "a")
    assert read_file(objects, put_tree(objects, folder), "link") == b"one"
    (folder / "loop").symlink_to(folder)
    with pytest.raises(Invalid, match="loop is not a regular file"):
        put_tree(objects, folder)
    (folder / "loop").unlink()
    (folder / "gone").symlink_to(folder / "nowhere")
    with pytest.raises(Invalid, match="gone is a link to nothing"):
        put_tree(objects, folder)


def test_a_missing_folder_is_not_found(objects: FolderStore, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no folder"):
        put_tree(objects, tmp_path / "nowhere")


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "a//b", "", "a\\b", "a\x00b"])
def test_unsafe_paths_are_refused_on_the_way_in_and_on_the_way_out(
    objects: FolderStore, tmp_path: Path, path: str
) -> None:
    with pytest.raises(Invalid, match="not a safe relative path"):
        put_tree_entries(objects, {path: b"x"})
    data = objects.put_bytes(b"x")
    forged = objects.put_bytes(b"loopwright-tree 1\n" + encode(Tree((TreeEntry(path, data, 1),))))
    with pytest.raises(Invalid, match="not a safe relative path"):
        checkout(objects, forged, tmp_path / "deep" / "out")
    assert list((tmp_path / "deep").iterdir()) == []


def test_a_path_cannot_be_a_file_and_a_folder(objects: FolderStore) -> None:
    with pytest.raises(Invalid, match="file and the folder"):
        put_tree_entries(objects, {"a": b"x", "a/b": b"y"})


def test_an_object_that_is_no_tree_is_invalid(objects: FolderStore) -> None:
    with pytest.raises(Invalid, match="is not a tree"):
        read_tree(objects, objects.put_bytes(b"just bytes"))
    with pytest.raises(Invalid, match="is not a tree"):
        read_tree(objects, objects.put_bytes(b"loopwright-tree 1\n{broken"))


def test_a_missing_file_of_a_tree_is_not_found(objects: FolderStore) -> None:
    with pytest.raises(NotFound, match=r"holds no file 'b'"):
        read_file(objects, put_tree_entries(objects, {"a": b"x"}), "b")


@pytest.mark.parametrize("victim", ["a.txt", "sub/deep/large.bin"])
def test_a_damaged_tree_is_not_checked_out_at_all(objects: FolderStore, tmp_path: Path, victim: str) -> None:
    digest = put_tree_entries(objects, dict(FILES))
    entry = read_tree(objects, digest).entry(victim)
    assert entry is not None
    path = objects.root / entry.holder[:2] / entry.holder[2:]
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[entry.offset] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(Corrupt, match=victim):
        checkout(objects, digest, tmp_path / "deep" / "out")
    with pytest.raises(Corrupt, match=victim):
        read_file(objects, digest, victim)
    assert list((tmp_path / "deep").iterdir()) == []


def test_a_checkout_never_overwrites(objects: FolderStore, tmp_path: Path) -> None:
    digest = put_tree_entries(objects, {"a": b"new"})
    (tmp_path / "out").mkdir()
    checkout(objects, digest, tmp_path / "out")  # an empty folder may be filled
    (tmp_path / "out" / "a").write_bytes(b"mine")
    with pytest.raises(Conflict, match="exists already"):
        checkout(objects, digest, tmp_path / "out")
    assert (tmp_path / "out" / "a").read_bytes() == b"mine"


def test_of_two_checkouts_at_once_both_succeed(
    objects: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules["loopwright.store.objects.checkout"]
    digest = put_tree_entries(objects, dict(FILES))
    fill = module._fill
    entered: list[int] = []

    def fill_and_be_overtaken(*arguments: object) -> None:
        fill(*arguments)
        if not entered:
            entered.append(1)
            checkout(objects, digest, tmp_path / "out")

    monkeypatch.setattr(module, "_fill", fill_and_be_overtaken)
    checkout(objects, digest, tmp_path / "out")
    assert files_of(tmp_path / "out") == FILES
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_leftovers_of_killed_checkouts_are_swept_a_day_later(objects: FolderStore, tmp_path: Path) -> None:
    digest = put_tree_entries(objects, {"a": b"x"})
    old, young, other = (tmp_path / name for name in (f".out.{new_id()}", f".out.{new_id()}", ".out.mine"))
    for folder in (old, young, other):
        (folder / "deep").mkdir(parents=True)
    for folder in (old, other):
        os.utime(folder, (time.time() - 90_000,) * 2)
    checkout(objects, digest, tmp_path / "out")
    assert [folder.exists() for folder in (old, young, other)] == [False, True, True]


@pytest.mark.s3
def test_a_tree_goes_to_s3_and_back(s3_place: S3Place, tmp_path: Path) -> None:
    objects = open_objects(s3_place.url, s3_place.options)
    digest = put_tree(objects, folder_of(tmp_path / "in", FILES))
    checkout(objects, digest, tmp_path / "out")
    assert files_of(tmp_path / "out") == FILES
    assert read_file(objects, digest, "sub/b.txt") == b"two"


def test_a_pack_stays_within_its_bound(objects: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees_module, "_BOUNDARY", "")  # no content-defined end
    monkeypatch.setattr(trees_module, "_PACK_MOST_BYTES", 100_000)
    digest = put_tree_entries(objects, {str(number): os.urandom(1000) for number in range(500)})
    packs = {entry.pack for entry in read_tree(objects, digest).entries}
    assert len(packs) == 5
    assert all(objects.stat(pack).size_bytes <= 101_000 for pack in packs)


def _manifest(objects: FolderStore, digest: str) -> int:
    return objects.stat(digest).size_bytes
