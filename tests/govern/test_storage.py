"""Garbage collection: what nobody needs goes, what anybody needs stays, whoever dies or writes meanwhile."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import func, select
from tests.tables import declare_all

from loopwright.core import Conflict, Invalid, NotFound, Scope, digest_bytes
from loopwright.govern import StorageService
from loopwright.store import Stores, fsck, metadata, put_tree
from loopwright.track import ExperimentService, RunService
from loopwright.workspace import SERVICES, holding_rooms, service_type

OLD_S = 7200.0


class World:
    """Runs and storage over fresh stores."""

    def __init__(self, stores: Stores) -> None:
        self.stores = stores
        self.runs, self.experiments = RunService(stores, Scope()), ExperimentService(stores, Scope())
        self.storage = StorageService(stores, Scope(), rooms=holding_rooms())

    def run_with_file(self, content: bytes, **more: str) -> tuple[str, str]:
        """The id of a new run and the digest of the file that it keeps."""
        run = self.runs.start(**more).id
        [made] = self.runs.log_artifact(run, content, "file.bin")
        self.runs.finish(run)
        return run, made.digest

    def age(self, *digests: str) -> None:
        """Let objects look as if they had been put two hours ago."""
        for digest in digests or tuple(stat.digest for stat in self.stores.objects.iterate()):
            then = time.time() - OLD_S
            os.utime(self.stores.data / "objects" / digest[:2] / digest[2:], (then, then))

    def there(self, digest: str) -> bool:
        return self.stores.objects.exists(digest)


@pytest.fixture
def world(stores: Stores) -> World:
    return World(stores)


@pytest.fixture
def small(stores_sqlite: Stores) -> World:
    return World(stores_sqlite)


def test_a_trial_says_what_would_go_and_removes_nothing(world: World) -> None:
    run, mine = world.run_with_file(b"mine")
    _, others = world.run_with_file(b"another's")
    loose = world.stores.objects.put_bytes(b"nobody's")
    fresh = world.stores.objects.put_bytes(b"fresh")
    world.age(mine, others, loose)
    world.runs.delete(run)
    found = world.storage.gc(dry_run=True, older_than_days=0)
    portions = {(portion.reason, portion.goes): portion for portion in found.portions}
    assert portions["files of runs", True].size_bytes == len(b"mine")
    assert portions["nothing refers to it", True].size_bytes == len(b"nobody's")
    assert portions["files of runs", False].size_bytes == len(b"another's")
    assert portions["put lately", False].size_bytes == len(b"fresh")
    assert (found.runs, found.freed_bytes) == (1, len(b"mine") + len(b"nobody's"))
    assert all(map(world.there, (mine, others, loose, fresh)))
    assert world.runs.get(run).lifecycle == "deleted"


def test_a_collection_removes_what_its_trial_said(world: World) -> None:
    run, mine = world.run_with_file(b"mine", experiment="a")
    world.runs.log_metrics(run, {"m": 1.0})
    world.runs.set_tags(run, {"t": "1"})
    other, others = world.run_with_file(b"another's", experiment="a")
    loose = world.stores.objects.put_bytes(b"nobody's")
    world.age()
    world.runs.delete(run)
    trial, done = world.storage.gc(True, 0), world.storage.gc(False, 0)
    assert msgspec.structs.replace(done, dry_run=True) == trial
    assert [world.there(digest) for digest in (mine, others, loose)] == [False, True, False]
    with pytest.raises(NotFound):
        world.runs.get(run)
    assert world.runs.get(other).lifecycle == "active"
    assert rows_of_run(world, 1) == []
    assert fsck(world.stores).problems == ()


def rows_of_run(world: World, seq: int) -> list[str]:
    """The tables that still have a row of the run."""
    with world.stores.db.read() as connection:
        return [
            table.name
            for table in metadata.tables.values()
            if "run_seq" in table.c
            and connection.execute(select(func.count()).where(table.c.run_seq == seq)).scalar_one()
        ]


def test_a_file_that_a_living_run_keeps_too_stays(small: World) -> None:
    first, digest = small.run_with_file(b"shared")
    small.run_with_file(b"shared")
    small.runs.delete(first)
    small.age()
    small.storage.gc(older_than_days=0)
    assert small.there(digest)


def test_what_was_deleted_lately_stays_and_can_be_restored(small: World) -> None:
    run, digest = small.run_with_file(b"x")
    small.runs.delete(run)
    small.age()
    assert small.storage.gc().runs == 0
    assert small.there(digest)
    small.runs.restore(run)
    assert small.runs.artifact(run, "file.bin") == b"x"


def test_a_deleted_experiment_goes_with_its_runs(world: World) -> None:
    run, digest = world.run_with_file(b"x", experiment="gone")
    experiment = world.experiments.find("gone")
    assert experiment is not None
    world.experiments.set_tag(experiment.id, "k", "v")
    world.experiments.delete(experiment.id)
    world.age()
    found = world.storage.gc(older_than_days=0)
    assert (found.runs, found.experiments) == (1, 1)
    assert world.experiments.find("gone") is None
    assert not world.there(digest)
    with pytest.raises(NotFound):
        world.runs.get(run)


@pytest.mark.parametrize("kind", ["run", "experiment", "project", "downstream"])
def test_a_hold_keeps_a_run_until_it_is_released(small: World, kind: str) -> None:
    run, digest = small.run_with_file(b"evidence", experiment="case")
    small.runs.log_output(run, "dataset:found@1")
    small.runs.delete(run)
    small.age()
    refs = {
        "run": f"run:{run}", "experiment": "experiment:case", "project": "project:default",
        "downstream": "dataset:found@1",
    }  # fmt: skip
    hold = small.storage.hold(refs[kind], "case 14")
    found = small.storage.gc(older_than_days=0)
    assert [kept.ref for kept in found.kept] == [f"run:{run}"]
    assert small.there(digest)
    small.storage.release_hold(hold.id)
    assert [found.reason for found in small.storage.holds(released=True)] == ["case 14"]
    assert small.storage.holds() == []
    with pytest.raises(Conflict, match="was released"):
        small.storage.release_hold(hold.id)
    assert small.storage.gc(older_than_days=0).runs == 1
    assert not small.there(digest)


def test_a_hold_needs_a_ref_and_a_reason(small: World) -> None:
    with pytest.raises(Invalid, match="needs a reason"):
        small.storage.hold("run:" + "0" * 32, " ")
    with pytest.raises(Invalid, match="not a ref"):
        small.storage.hold("nothing", "x")
    with pytest.raises(NotFound, match="no hold"):
        small.storage.release_hold("x")


def test_a_run_that_a_model_version_came_from_stays(small: World) -> None:
    grand, _ = small.run_with_file(b"search")
    run, digest = small.run_with_file(b"weights", parent=grand)
    with small.stores.db.begin() as tx:
        for ref in ("model:m@1",):
            small.stores.lineage.node(tx, ref)
            small.stores.lineage.edge(tx, f"run:{run}", ref, "output")
    small.storage.hold("model:m@1", "stands for the registry's own root")
    for deleted in (grand, run):
        small.runs.delete(deleted)
    small.age()
    found = small.storage.gc(older_than_days=0)
    assert {kept.ref for kept in found.kept} == {f"run:{run}", f"run:{grand}"}
    assert small.there(digest)


def test_a_tree_keeps_its_parts(small: World, tmp_path: Path) -> None:
    folder = tmp_path / "tree"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.bin").write_bytes(os.urandom(100 << 10))
    tree = put_tree(small.stores.objects, folder)
    digests = [stat.digest for stat in small.stores.objects.iterate()]
    now = small.stores.clock.now()
    from loopwright.data.tables import dataset_versions

    values = {
        "project": "default", "name": "t", "version": 1, "kind": "files", "digest": tree, "part_digest": "", "rows": 0,
        "size_bytes": 1, "created_at": now, "actor": "", "source": "", "message": "",
    }  # fmt: skip
    with small.stores.db.begin() as tx:
        tx.execute(dataset_versions.insert().values(values))
    small.age()
    assert small.storage.gc().freed_bytes == 0
    assert all(map(small.there, digests))
    with small.stores.db.begin() as tx:
        tx.execute(dataset_versions.delete())
    small.storage.gc()
    assert list(small.stores.objects.iterate()) == []


def test_objects_that_a_running_run_may_have_put_stay(small: World) -> None:
    digest = small.stores.objects.put_bytes(b"put by a step that tells of it at its end")
    run = small.runs.start().id
    past = time.time() - OLD_S
    with small.stores.db.begin() as tx:
        tx.exec_driver_sql("UPDATE runs SET started_at = ?", (int((past - 60) * 1e6),))
    small.age()
    assert small.storage.gc().freed_bytes == 0
    small.runs.finish(run)
    small.storage.gc()
    assert not small.there(digest)


def test_each_digest_in_any_table_is_held_by_its_room(small: World) -> None:
    """A room that keeps an object and does not say so would lose it: no column may name one in silence."""
    for room in SERVICES:
        service_type(room)
    declare_all()
    held = " ".join(str(holding.rows) for room in holding_rooms() for holding in room.HOLDINGS)
    known_to_name_none = {
        "lineage_nodes.digest", "run_inputs.digest", "run_datasets.digest", "feature_views.digest",
        "tokens.secret_digest", "token_sessions.cookie_digest", "dataset_versions.part_digest",
        "logged_metrics.dataset_digest", "eval_sets.digest", "eval_records.inputs_digest",
    }  # fmt: skip
    naming = {
        f"{table.name}.{column.name}"
        for table in metadata.tables.values()
        for column in table.c
        if re.search("digest|sketch|bundle|notes|capture", column.name)
    }
    assert {name for name in naming - known_to_name_none if name not in held} == set()
    assert known_to_name_none <= naming


WRITER = """
import sys
from pathlib import Path
from loopwright.core import Location, Settings, Scope
from loopwright.govern import StorageService
from loopwright.store import open_stores
from loopwright.workspace import MIGRATIONS, holding_rooms
root = Path(sys.argv[1])
stores = open_stores(Location(root, root / ".loopwright", Settings()), MIGRATIONS)
print("ready", flush=True)
StorageService(stores, Scope(), rooms=holding_rooms()).gc(older_than_days=0)
"""


@pytest.mark.fault
@pytest.mark.parametrize("after_s", [0.02, 0.1, 0.2, 0.35])
def test_a_collection_that_is_killed_leaves_nothing_dangling(small: World, after_s: float) -> None:
    kept = dict(small.run_with_file(b"kept %d" % number) for number in range(30))
    doomed = dict(small.run_with_file(b"doomed %d" % number) for number in range(130))
    for run in doomed:
        small.runs.delete(run)
    small.age()
    collector = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(small.stores.root)], stdout=subprocess.PIPE, text=True
    )
    assert collector.stdout is not None
    assert collector.stdout.readline() == "ready\n"
    time.sleep(after_s)
    os.kill(collector.pid, signal.SIGKILL)
    collector.wait(10)
    for run, digest in kept.items():
        assert digest_bytes(small.runs.artifact(run, "file.bin")) == digest
    everything = small.runs.search(view="all", limit=1000)  # type: ignore[arg-type]  # as JSON gives it
    for run in everything:
        assert [item.path for item in small.runs.artifacts(run.id)] == ["file.bin"]
        assert small.runs.artifact(run.id, "file.bin")
    small.storage.gc(older_than_days=0)
    assert sorted(run.id for run in small.runs.search(limit=1000)) == sorted(kept)
    assert {stat.digest for stat in small.stores.objects.iterate()} == set(kept.values())
    assert fsck(small.stores).problems == ()


@pytest.mark.fault
def test_a_collection_beside_writers_of_the_same_content_loses_nothing(small: World) -> None:
    """Writers keep putting content that nothing holds and that looks old, and then name it."""
    contents = [b"content %d" % number for number in range(40)]
    stop, failures = threading.Event(), []

    def collect() -> None:
        try:
            while not stop.is_set():
                small.storage.gc(older_than_days=0)
        except BaseException as error:
            failures.append(error)

    collector = threading.Thread(target=collect)
    collector.start()
    chance = random.Random(7)
    named: list[tuple[str, bytes]] = []
    for number in range(120):
        content = chance.choice(contents)
        if number % 3 == 0:
            with suppress(FileNotFoundError):  # collected at once: it was old, and nothing held it
                small.age(small.stores.objects.put_bytes(content))
        run = small.runs.start().id
        small.runs.log_artifact(run, content, "f")
        small.runs.finish(run)
        named.append((run, content))
    stop.set()
    collector.join()
    assert failures == []
    for run, content in named:
        assert small.runs.artifact(run, "f") == content
