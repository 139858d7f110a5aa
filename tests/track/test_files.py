"""Files that hang on runs, logged models and traces: kept, listed, deleted, uploaded in parts; on both databases."""

from __future__ import annotations

import io
import os

import pytest
from sqlalchemy import select

from loopwright.core import Conflict, Invalid, NotFound, Scope, digest_bytes, new_id
from loopwright.govern import StorageService
from loopwright.store import Stores, read_file, read_tree
from loopwright.track import (
    ArtifactService,
    Entry,
    ExperimentService,
    LoggedModelService,
    NewTrace,
    Part,
    RequestTraceService,
    RunService,
)
from loopwright.track.files.tables import kept_files
from loopwright.workspace import holding_rooms


@pytest.fixture
def files(stores: Stores) -> ArtifactService:
    return ArtifactService(stores, Scope(actor="user:ada"))


@pytest.fixture
def run(files: ArtifactService) -> str:
    return RunService(files.stores, files.scope).start().ref


@pytest.fixture
def model(files: ArtifactService) -> str:
    RunService(files.stores, files.scope).start()
    return f"model:{LoggedModelService(files.stores, files.scope).create('default').id}"


def kept(files: ArtifactService, owner: str, path: str, data: bytes = b"x") -> None:
    files.store(owner, path, io.BytesIO(data))


def paths(entries: list[Entry]) -> list[str]:
    return [f"{item.path}/" if item.is_folder else f"{item.path} {item.size_bytes}" for item in entries]


@pytest.fixture
def trace(files: ArtifactService) -> str:
    experiment = ExperimentService(files.stores, files.scope).create("requests").id
    wanted = NewTrace(id=f"tr-{new_id()}", started_at=files.stores.clock.now())
    return f"trace:{RequestTraceService(files.stores, files.scope).record(experiment, wanted).id}"


@pytest.mark.parametrize("kind", ["run", "model", "trace"])
def test_a_file_of_any_owner_is_read_back_and_listed_by_folder(
    files: ArtifactService, run: str, model: str, trace: str, kind: str
) -> None:
    owner = {"run": run, "model": model, "trace": trace}[kind]
    for path in ("b.txt", "model/MLmodel", "model/data/weights.bin", "model/data/x.bin", "Model/other"):
        kept(files, owner, path, path.encode())
    assert paths(files.list(owner)) == ["Model/", "b.txt 5", "model/"]
    assert paths(files.list(owner, "model")) == ["model/MLmodel 13", "model/data/"]
    assert files.list(owner, "nothing") == []
    found, stream = files.open(owner, "model/data/x.bin")
    with stream:
        assert stream.read() == b"model/data/x.bin"
    assert (found.size_bytes, found.digest) == (16, digest_bytes(b"model/data/x.bin"))


def test_a_run_sees_the_same_files_by_both_services(files: ArtifactService, run: str) -> None:
    runs = RunService(files.stores, files.scope)
    runs.log_artifact(run, b"1", "a/one.txt")
    kept(files, run, "a/two.txt", b"22")
    assert [item.path for item in runs.artifacts(run)] == ["a/one.txt", "a/two.txt"]
    assert paths(files.list(run, "a")) == ["a/one.txt 1", "a/two.txt 2"]


def test_a_file_is_replaced_and_its_folder_is_never_a_file(files: ArtifactService, run: str) -> None:
    kept(files, run, "a/b", b"1")
    kept(files, run, "a/b", b"22")
    assert files.stat(run, "a/b").size_bytes == 2
    with pytest.raises(Conflict, match="'a/b' is a file and cannot be a folder"):
        kept(files, run, "a/b/c")
    with pytest.raises(Conflict, match="'a' is a folder and cannot be a file"):
        kept(files, run, "a")
    for beside in ("a0", "a-", "A"):
        kept(files, run, beside)
    assert paths(files.list(run)) == ["A 1", "a/", "a- 1", "a0 1"]


def test_files_are_forgotten_one_by_one_by_folder_or_all(files: ArtifactService, run: str) -> None:
    for path in ("a/1", "a/2", "ab/1", "c", "d"):
        kept(files, run, path)
    assert files.delete(run, "a") == 2
    assert files.delete(run, "c") == 1
    assert paths(files.list(run)) == ["ab/", "d 1"]
    assert files.delete(run) == 2
    assert files.list(run) == []


def test_owners_of_another_project_are_not_there(files: ArtifactService, run: str, model: str, trace: str) -> None:
    kept(files, run, "a")
    kept(files, model, "a")
    kept(files, trace, "a")
    elsewhere = ArtifactService(files.stores, Scope("elsewhere"))
    for owner in (run, model, trace):
        with pytest.raises(NotFound):
            elsewhere.stat(owner, "a")
        with pytest.raises(NotFound):
            kept(elsewhere, owner, "b")


@pytest.mark.parametrize(
    "owner",
    ["run:x", "model:x", "model:m-../x", "trace:x", "dataset:a", "", "run:", "model:m-" + "g" * 32, "run:../../etc"],
)
def test_what_owns_no_files_is_refused(files: ArtifactService, owner: str) -> None:
    with pytest.raises((Invalid, NotFound)):
        kept(files, owner, "a")


@pytest.mark.parametrize("path", ["../a", "/a", "a/../b", "a\\b", "", "a//b", "a/.", "a\x00"])
def test_a_path_that_leaves_its_owner_is_refused_before_a_byte_is_read(
    files: ArtifactService, run: str, path: str
) -> None:
    stream = io.BytesIO(b"data")
    with pytest.raises(Invalid):
        files.store(run, path, stream)
    assert stream.tell() == 0


def test_a_deleted_run_keeps_its_files_and_takes_no_more(files: ArtifactService, run: str) -> None:
    kept(files, run, "a")
    RunService(files.stores, files.scope).delete(run)
    assert files.stat(run, "a").size_bytes == 1
    with pytest.raises(Conflict, match="is deleted"):
        kept(files, run, "b")


def test_a_stream_that_breaks_leaves_nothing(files: ArtifactService, run: str) -> None:
    class Breaks:
        left = 3

        def read(self, size: int, /) -> bytes:
            self.left -= 1
            if not self.left:
                raise EOFError
            return b"x" * size

    with pytest.raises(EOFError):
        files.store(run, "a", Breaks())
    assert files.list(run) == []
    assert list(files.stores.objects.iterate()) == []
    assert [path for path in (files.stores.data / "objects").rglob("*") if path.is_file()] == []


def test_a_tree_is_the_folder_as_it_was(files: ArtifactService, run: str) -> None:
    kept(files, run, "model/MLmodel", b"old")
    kept(files, run, "model/data/w", b"weights")
    kept(files, run, "other", b"no")
    digest, size = files.tree(run, "model")
    kept(files, run, "model/MLmodel", b"new")
    files.delete(run)
    assert size == 10
    assert [entry.path for entry in read_tree(files.stores.objects, digest).entries] == ["MLmodel", "data/w"]
    assert read_file(files.stores.objects, digest, "MLmodel") == b"old"


def begun(files: ArtifactService, owner: str, parts: int = 3) -> tuple[str, str]:
    made = files.begin(owner, "big.bin", parts)
    return made.id, made.secret


def test_parts_become_one_file_in_their_order(files: ArtifactService, run: str) -> None:
    upload, secret = begun(files, run)
    sent = [
        files.put_part(upload, secret, number, io.BytesIO(data)) for number, data in ((3, b"c"), (1, b"aa"), (2, b"b"))
    ]
    assert files.list(run) == []
    made = files.complete(run, "big.bin", upload, tuple(sent))
    assert (made.size_bytes, made.digest) == (4, digest_bytes(b"aabc"))
    assert files.stat(run, "big.bin") == made
    with pytest.raises(NotFound):
        files.complete(run, "big.bin", upload, tuple(sent))


def test_a_part_needs_the_secret_and_a_place(files: ArtifactService, run: str) -> None:
    upload, secret = begun(files, run)
    for wrong in ("", "x", secret[:-1] + "é"):
        with pytest.raises(NotFound):
            files.put_part(upload, wrong, 1, io.BytesIO(b"x"))
    for number in (0, 4, -1):
        with pytest.raises(Invalid, match="has no part"):
            files.put_part(upload, secret, number, io.BytesIO(b"x"))


def test_an_upload_with_a_wrong_or_missing_part_is_not_completed(files: ArtifactService, run: str) -> None:
    upload, secret = begun(files, run, parts=2)
    one = files.put_part(upload, secret, 1, io.BytesIO(b"1"))
    with pytest.raises(Conflict, match="part 2"):
        files.complete(run, "big.bin", upload, (one,))
    two = files.put_part(upload, secret, 2, io.BytesIO(b"2"))
    with pytest.raises(Conflict, match="part 2"):
        files.complete(run, "big.bin", upload, (one, Part(2, one.digest)))
    with pytest.raises(NotFound):
        files.complete(run, "other.bin", upload, (one, two))
    files.abort(run, "big.bin", upload)
    with pytest.raises(NotFound):
        files.complete(run, "big.bin", upload, (one, two))
    assert files.list(run) == []


def test_an_upload_has_a_bounded_number_of_parts(files: ArtifactService, run: str) -> None:
    for parts in (0, -1, 10_001):
        with pytest.raises(Invalid, match="cannot have"):
            files.begin(run, "big.bin", parts)


def test_files_of_a_logged_model_are_collected_with_its_deleted_run(stores_sqlite: Stores) -> None:
    scope = Scope()
    runs, logged = RunService(stores_sqlite, scope), LoggedModelService(stores_sqlite, scope)
    files, storage = ArtifactService(stores_sqlite, scope), StorageService(stores_sqlite, scope, rooms=holding_rooms())
    gone, stays = runs.start(), runs.start()
    digests = []
    for run in (gone, stays):
        owner = f"model:{logged.create('default', source_run=run.id).id}"
        digests.append(files.store(owner, "MLmodel", io.BytesIO(run.id.encode())).digest)
    for digest in digests:
        os.utime(stores_sqlite.data / "objects" / digest[:2] / digest[2:], (0, 0))
    runs.finish(gone.id)
    runs.finish(stays.id)
    runs.delete(gone.id)
    storage.gc(False, 0)
    assert [stores_sqlite.objects.exists(digest) for digest in digests] == [False, True]
    with stores_sqlite.db.read() as connection:
        assert connection.execute(select(kept_files.c.digest)).scalars().all() == digests[1:]
