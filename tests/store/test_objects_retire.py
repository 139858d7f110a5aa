"""Old objects are removed, and one that is put again in the same moment is not."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from tests.store.test_objects import objects

from loopwright.store.objects import FolderStore, ObjectStore, open_objects
from loopwright.store.objects import remote as remote_module

__all__ = ["objects"]

HOUR_S = 3600.0


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every object counts as old a moment after it was put, so that putting it again has to renew it."""
    monkeypatch.setattr(remote_module, "_YOUNG_S", 0.0)


def test_ages_tell_when_objects_were_put(objects: ObjectStore) -> None:
    before = time.time() - 2  # S3 tells whole seconds
    digests = sorted(objects.put_bytes(data) for data in (b"one", b"two", b""))
    found = list(objects.ages())
    assert [(age.digest, age.size_bytes) for age in found] == [
        (digest, objects.stat(digest).size_bytes) for digest in digests
    ]
    assert all(before <= age.put_s <= time.time() + 2 for age in found)


def test_only_what_was_put_before_a_time_is_retired(objects: ObjectStore) -> None:
    digest = objects.put_bytes(b"x")
    assert not objects.retire(digest, time.time() - HOUR_S)
    assert objects.get(digest) == b"x"
    assert objects.retire(digest, time.time() + HOUR_S)
    assert not objects.exists(digest)
    assert list(objects.ages()) == []
    assert objects.retire(digest, time.time() + HOUR_S)
    assert objects.put_bytes(b"x") == digest
    assert objects.get(digest) == b"x"


@pytest.mark.slow
def test_putting_again_makes_an_object_young(objects: ObjectStore, hasty: None, tmp_path: Path) -> None:
    data = b"again"
    digest = objects.put_bytes(data)
    time.sleep(2.1)
    between = time.time()
    time.sleep(1.1)
    path = tmp_path / "file"
    path.write_bytes(data)
    assert objects.put_file(path) == digest
    assert not objects.retire(digest, between)
    assert objects.get(digest, verify=True) == data


@pytest.fixture
def folder(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "objects")


def make_old(store: FolderStore, digest: str) -> None:
    then = time.time() - 2 * HOUR_S
    os.utime(store.root / digest[:2] / digest[2:], (then, then))


def test_what_a_killed_process_was_retiring_comes_back_when_it_is_asked_for(folder: FolderStore) -> None:
    digests = [folder.put_bytes(data) for data in (b"read", b"seen", b"sized", b"put", b"listed")]
    for digest in digests:
        aside = folder.root / "retired" / digest
        aside.parent.mkdir(exist_ok=True)
        (folder.root / digest[:2] / digest[2:]).rename(aside)
    read, seen, sized, put, listed = digests
    assert folder.get(read) == b"read"
    assert folder.exists(seen)
    assert folder.stat(sized).size_bytes == 5
    assert folder.put_bytes(b"put") == put
    assert {age.digest for age in folder.ages()} == set(digests)
    assert folder.get(listed) == b"listed"


def test_writers_and_a_collector_of_the_same_object_never_lose_it(folder: FolderStore) -> None:
    """Whoever is first: when a put has returned, the object is there and stays, as long as it is young."""
    data, lost = b"fought over", []
    digest = folder.put_bytes(data)
    stop = threading.Event()

    def collect() -> None:
        while not stop.is_set():
            folder.retire(digest, time.time() - HOUR_S)

    collector = threading.Thread(target=collect)
    collector.start()
    for _ in range(400):
        folder.put_bytes(data)
        if folder.get(digest) != data:
            lost.append("get")
        try:
            make_old(folder, digest)
        except FileNotFoundError:
            lost.append("young, and yet removed")
    stop.set()
    collector.join()
    assert lost == []


def test_a_store_of_the_grown_kind_asks_before_it_trusts_its_cache(tmp_path: Path, hasty: None) -> None:
    one, two = (open_objects(f"local://{tmp_path / 'remote'}") for _ in range(2))
    digest = one.put_bytes(b"x")
    assert two.exists(digest)
    assert one.retire(digest, time.time() + HOUR_S)
    assert two.put_bytes(b"x") == digest
    assert one.get(digest) == b"x"
