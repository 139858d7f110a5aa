"""One contract, every kind of object store: a folder, S3 over HTTP, and a file system without atomic writes."""

from __future__ import annotations

import errno
import io
import os
import threading
import time
from pathlib import Path

import pytest
from tests.servers_bytes import S3Place

from loopwright.core import Corrupt, Invalid, NotFound, Unavailable, digest_bytes
from loopwright.store.objects import FolderStore, ObjectStat, ObjectStore, open_objects
from loopwright.store.objects import remote as remote_module

ABSENT = "0" * 64


@pytest.fixture(params=["folder", "moving", "memory", pytest.param("s3", marks=pytest.mark.s3)])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "folder":
        return open_objects(tmp_path / "objects")
    if request.param == "moving":  # fsspec's local files behind another scheme: written beside, then moved
        return open_objects(f"local://{tmp_path / 'remote'}")
    if request.param == "memory":
        return open_objects(f"memory://{tmp_path.name}")
    place: S3Place = request.getfixturevalue("s3_place")
    return open_objects(place.url, place.options)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large files start at 1 MiB, so that a test of them is quick."""
    monkeypatch.setattr(remote_module, "_WHOLE_BYTES", 1 << 20)


def test_bytes_come_back_under_their_digest(objects: ObjectStore) -> None:
    digest = objects.put_bytes(b"flights")
    assert digest == digest_bytes(b"flights")
    assert objects.get(digest, verify=True) == b"flights"
    assert objects.stat(digest) == ObjectStat(digest, 7)
    assert objects.exists(digest)
    assert objects.verify(digest)


def test_the_empty_object_is_an_object(objects: ObjectStore) -> None:
    digest = objects.put_bytes(b"")
    assert objects.get(digest, verify=True) == b""
    assert objects.stat(digest).size_bytes == 0


def test_the_three_ways_in_give_one_object(objects: ObjectStore, tmp_path: Path, small_parts: None) -> None:
    data = bytes(range(256)) * 12_000  # three megabytes: a large file for `small_parts`
    path = tmp_path / "file"
    path.write_bytes(data)
    by_file = objects.put_file(path)
    assert objects.get(by_file, verify=True) == data
    assert objects.put_stream(io.BytesIO(data)) == by_file == objects.put_bytes(data)
    assert [stat.digest for stat in objects.iterate()] == [by_file]


def test_an_open_object_can_be_read_from_any_place(objects: ObjectStore) -> None:
    digest = objects.put_bytes(b"0123456789")
    with objects.open(digest) as stream:
        stream.seek(4)
        assert stream.read(3) == b"456"


def test_iterate_gives_every_object_in_order_and_nothing_else(objects: ObjectStore) -> None:
    put = sorted(objects.put_bytes(str(number).encode()) for number in range(30))
    assert [stat.digest for stat in objects.iterate()] == put


def test_an_empty_store_has_nothing(objects: ObjectStore) -> None:
    assert list(objects.iterate()) == []
    assert not objects.exists(ABSENT)


def test_what_is_not_there_is_not_found(objects: ObjectStore) -> None:
    for ask in (objects.get, objects.stat, objects.open, objects.verify):
        with pytest.raises(NotFound, match=ABSENT):
            ask(ABSENT)


def test_a_deleted_object_is_gone_and_deleting_again_is_fine(objects: ObjectStore) -> None:
    digest = objects.put_bytes(b"x")
    objects.delete(digest)
    objects.delete(digest)
    assert not objects.exists(digest)
    assert objects.put_bytes(b"x") == digest
    assert objects.exists(digest)


@pytest.mark.parametrize("text", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n"])
def test_what_is_no_digest_never_becomes_a_key(objects: ObjectStore, text: str) -> None:
    for ask in (objects.get, objects.stat, objects.open, objects.delete, objects.exists, objects.verify):
        with pytest.raises(Invalid, match="not a digest"):
            ask(text)


def test_a_missing_file_or_a_folder_cannot_be_put(objects: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        objects.put_file(tmp_path / "nowhere")
    with pytest.raises(Invalid, match="is a folder"):
        objects.put_file(tmp_path)


def test_many_writers_of_one_content_keep_it_once_and_whole(objects: ObjectStore) -> None:
    data = b"the same" * 20_000
    digests: list[str] = []
    writers = [threading.Thread(target=lambda: digests.append(objects.put_bytes(data))) for _ in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert digests == [digest_bytes(data)] * 8
    assert list(objects.iterate()) == [ObjectStat(digests[0], len(data))]
    assert objects.verify(digests[0])


def test_a_source_that_breaks_leaves_nothing(objects: ObjectStore) -> None:
    class Broken(io.RawIOBase):
        def read(self, size: int = -1, /) -> bytes:
            if self.tell_count:
                raise ValueError("the line went dead")
            self.tell_count = 1
            return b"half"

        tell_count = 0

    with pytest.raises(ValueError, match="the line went dead"):
        objects.put_stream(Broken())  # type: ignore[arg-type]  # it can be read, and that is all
    assert list(objects.iterate()) == []


# What only a folder can show: flipped bytes, full disks, leftovers.


def test_a_flipped_byte_is_found_on_a_verified_read(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    digest = store.put_bytes(b"flights")
    _flip(tmp_path / digest[:2] / digest[2:])
    assert store.get(digest) != b"flights"
    assert not store.verify(digest)
    with pytest.raises(Corrupt, match="is damaged"):
        store.get(digest, verify=True)


@pytest.mark.s3
def test_a_flipped_byte_on_s3_is_found_on_a_verified_read(s3_place: S3Place) -> None:
    store = open_objects(s3_place.url, s3_place.options)
    digest = store.put_bytes(b"flights")
    store._files.pipe_file(store._key(digest), b"fl1ghts")  # type: ignore[attr-defined]  # behind the store's back
    assert not store.verify(digest)
    with pytest.raises(Corrupt, match="is damaged"):
        store.get(digest, verify=True)


@pytest.mark.s3
def test_a_put_on_s3_is_conditional(s3_place: S3Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that did not see the object still cannot replace it."""
    store = open_objects(s3_place.url, s3_place.options)
    digest = store.put_bytes(b"flights")
    store._files.pipe_file(store._key(digest), b"planted")  # type: ignore[attr-defined]  # behind the store's back
    monkeypatch.setattr(store, "_held", lambda _digest: None)
    assert store.put_bytes(b"flights") == digest
    assert store.get(digest) == b"planted"


def test_a_truncated_object_is_replaced_by_the_next_put(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    digest = store.put_bytes(b"flights")
    path = tmp_path / digest[:2] / digest[2:]
    path.chmod(0o644)
    path.write_bytes(b"fl")
    store.put_bytes(b"flights")
    assert store.get(digest, verify=True) == b"flights"


def test_objects_are_read_only_files(tmp_path: Path) -> None:
    digest = FolderStore(tmp_path).put_bytes(b"x")
    assert (tmp_path / digest[:2] / digest[2:]).stat().st_mode & 0o222 == 0


def test_leftovers_of_dead_writers_are_swept_a_day_later_and_young_ones_stay(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    for name, age_s in (("old", 90_000), ("young", 60)):
        (tmp_path / "tmp" / name).write_bytes(b"half")
        os.utime(tmp_path / "tmp" / name, (time.time() - age_s,) * 2)
    FolderStore(tmp_path).put_bytes(b"x")
    assert [path.name for path in (tmp_path / "tmp").iterdir()] == ["young"]


def test_a_full_disk_says_so_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store = FolderStore(tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Unavailable, match="no space left"):
        store.put_bytes(b"x" * 100_000)
    monkeypatch.undo()
    assert list(store.iterate()) == []
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.slow
def test_a_place_that_does_not_answer_is_unavailable() -> None:
    options = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    with pytest.raises(Unavailable, match="s3://bucket/x"):
        open_objects("s3://bucket/x", options).exists(ABSENT)


def test_an_unknown_scheme_or_option_is_refused() -> None:
    with pytest.raises(Invalid, match="carrier-pigeon"):
        open_objects("carrier-pigeon://coop")
    with pytest.raises(Invalid, match="AWS_TYPO"):
        open_objects("s3://bucket/x", {"AWS_TYPO": "1"})


def _flip(path: Path) -> None:
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
