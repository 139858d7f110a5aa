"""Garbage collection of models: what was deleted goes with its bytes, what lives loses nothing."""

from __future__ import annotations

import io
import os
import time

import pytest
from tests.models.conftest import bundle, fitted, trips

from loopwright.core import Conflict, NotFound, Scope, new_id
from loopwright.govern import StorageService
from loopwright.govern.storage import Collection
from loopwright.models import Bundle, ModelService
from loopwright.models.tables import model_signatures
from loopwright.release import ApprovalService, EndpointService
from loopwright.store import Stores, fsck
from loopwright.track import ArtifactService, ExperimentService, LoggedModelService, ModelUse, RunInput, RunService
from loopwright.workspace import holding_rooms

__all__ = ["bundle", "fitted", "trips"]


class World:
    """A registry, runs and storage over fresh stores."""

    def __init__(self, stores: Stores) -> None:
        self.stores, scope = stores, Scope()
        self.runs, self.experiments = RunService(stores, scope), ExperimentService(stores, scope)
        self.models, self.logged = ModelService(stores, scope), LoggedModelService(stores, scope)
        self.files = ArtifactService(stores, scope)
        self.endpoints = EndpointService(stores, scope, models=self.models)
        self.storage = StorageService(stores, scope, rooms=holding_rooms())

    def version(self, content: bytes, name: str = "m") -> tuple[str, str]:
        """A new version of a folder that a run made: its ref, and the digest of what it holds. The run is deleted."""
        run = self.runs.start().id
        self.runs.log_artifact(run, content, "model/weights.bin")
        self.runs.finish(run)
        if name not in {model.name for model in self.models.list()}:
            self.models.create(name)
        made = self.models.register_source(name, "", owner=f"run:{run}", folder="model", run=run)
        self.runs.delete(run)
        return made.ref, made.bundle

    def age(self) -> None:
        """Let objects look as if they had been put two hours ago."""
        then = time.time() - 7200
        for stat in self.stores.objects.iterate():
            os.utime(self.stores.data / "objects" / stat.digest[:2] / stat.digest[2:], (then, then))

    def collect(self, dry_run: bool = False, older_than_days: float = 0.0) -> Collection:
        self.age()
        return self.storage.gc(dry_run=dry_run, older_than_days=older_than_days)

    def there(self, digest: str) -> bool:
        return self.stores.objects.exists(digest)


@pytest.fixture
def world(stores: Stores) -> World:
    return World(stores)


@pytest.fixture
def small(stores_sqlite: Stores) -> World:
    return World(stores_sqlite)


def kept(found: Collection) -> dict[str, str]:
    return {item.ref: item.reason for item in found.kept}


def test_a_deleted_version_goes_with_its_bundle_and_the_run_that_made_it(world: World) -> None:
    gone, bytes_gone = world.version(b"old " * 100)
    stays, bytes_stay = world.version(b"new " * 100)
    world.models.set_alias("m", "champion", 2)
    assert world.collect().versions == 0
    world.models.delete_version(gone)
    trial = world.collect(dry_run=True)
    assert (trial.versions, trial.runs) == (1, 1)
    reasons = {portion.reason for portion in trial.portions if portion.goes}
    assert reasons == {"bundles of model versions", "files of runs"}
    assert trial.freed_bytes > 400
    assert world.there(bytes_gone)
    done = world.collect()
    assert (done.versions, done.runs, done.freed_bytes) == (1, 1, trial.freed_bytes)
    assert [world.there(bytes_gone), world.there(bytes_stay)] == [False, True]
    assert world.models.get("model:m@champion").ref == stays
    [told] = world.stores.events.read(kinds=["model.version_removed"])
    assert told.subject == gone
    assert fsck(world.stores).problems == ()


def test_a_deleted_model_goes_whole_and_its_numbers_stay_taken(world: World) -> None:
    _, first = world.version(b"first")
    _, second = world.version(b"second")
    world.models.delete("m")
    assert world.collect().versions == 2
    assert not world.there(first)
    assert not world.there(second)
    world.models.create("other")
    with pytest.raises(Conflict, match="version numbers are taken"):
        world.models.rename("other", "m")
    assert world.version(b"third")[0] == "model:m@3"


def test_a_version_that_was_deleted_lately_stays_with_its_run(small: World) -> None:
    ref, digest = small.version(b"x")
    small.models.delete_version(ref)
    run = small.runs.search(view="deleted", limit=1)[0].id  # type: ignore[arg-type]  # as JSON gives it
    then = small.stores.clock.now().timestamp() - 40 * 86_400
    with small.stores.db.begin() as tx:
        tx.exec_driver_sql("UPDATE runs SET deleted_at = ?", (int(then * 1e6),))
    found = small.collect(older_than_days=30)
    assert (found.versions, found.runs) == (0, 0)
    assert kept(found) == {f"run:{run}": "a model version or a hold needs it"}
    assert small.there(digest)


def test_a_copy_keeps_the_bytes_of_a_version_that_goes(small: World) -> None:
    ref, digest = small.version(b"x")
    small.models.create("copy")
    copy = small.models.register_source("copy", "", copy_of=ref)
    small.models.delete("m")
    assert small.collect().versions == 1
    assert small.there(digest)
    assert small.models.files(copy.bundle)[0].path == "weights.bin"


@pytest.mark.parametrize("by", ["version", "name", "project"])
def test_a_hold_keeps_a_deleted_version(small: World, by: str) -> None:
    ref, digest = small.version(b"x")
    small.models.delete_version(ref)
    hold = small.storage.hold({"version": ref, "name": "model:m", "project": "project:default"}[by], "case 14")
    found = small.collect()
    assert (found.versions, found.runs) == (0, 0)
    assert "hold" in kept(found)[ref]
    assert small.there(digest)
    small.storage.release_hold(hold.id)
    found = small.collect()
    assert (found.versions, found.runs) == (1, 1)
    assert not small.there(digest)


def test_a_run_that_read_a_deleted_version_keeps_it(world: World) -> None:
    ref, digest = world.version(b"x")
    reader = world.runs.start().id
    world.runs.log_inputs(reader, [RunInput(ref)])
    world.runs.finish(reader)
    world.models.delete_version(ref)
    assert kept(world.collect())[ref] == "a run used it"
    assert world.there(digest)
    world.runs.delete(reader)
    assert world.collect().versions == 1
    assert not world.there(digest)


def test_what_an_endpoint_serves_or_could_go_back_to_stays(world: World, bundle: Bundle) -> None:
    refs = [world.models.register("delay", bundle, run=new_id()).ref for _ in range(3)]
    endpoint = world.endpoints.create("delay", refs[0])
    for ref in refs[1:]:
        endpoint = world.endpoints.set_traffic("delay", {ref: 1.0})
    assert endpoint.stable == refs[2]
    for ref in refs:
        world.models.delete_version(ref)
    found = world.collect()
    assert found.versions == 1, "the first is served by nobody, and nobody goes back to it"
    assert set(kept(found)) == set(refs[1:])
    digest = endpoint.shares[0].bundle
    assert world.there(digest)
    assert world.stores.objects.get(digest)


def test_a_version_that_waits_for_a_yes_stays(small: World) -> None:
    ref, digest = small.version(b"x")
    approvals = ApprovalService(small.stores, Scope())
    with small.stores.db.begin() as tx:
        asked = approvals.request(tx, subject="looprun:1", model=ref, endpoint="delay", evidence={})
    small.models.delete_version(ref)
    assert small.collect().versions == 0
    assert small.there(digest)
    approvals.deny(asked.id, "no")
    assert small.collect().versions == 1


def test_a_deleted_logged_model_goes_with_its_files(world: World) -> None:
    experiment = world.experiments.create("e").id
    ids = [world.logged.create(experiment, source_run=new_id()).id for _ in range(3)]
    digests = [world.files.store(f"model:{id}", "w.bin", io.BytesIO(id.encode())).digest for id in ids]
    reader = world.runs.start().id
    world.runs.log_datasets(reader, [], [ModelUse(ids[1], 0)])
    world.runs.finish(reader)
    for id in ids[:2]:
        world.logged.delete(id)
    trial, done = world.collect(dry_run=True), world.collect()
    assert (trial.logged_models, trial.freed_bytes) == (done.logged_models, done.freed_bytes) == (1, len(ids[0]))
    assert kept(done) == {f"logged_model:{ids[1]}": "a run used it"}
    assert [world.there(digest) for digest in digests] == [False, True, True]
    with pytest.raises(NotFound):
        world.logged.get(ids[0], deleted=True)


def test_a_trial_counts_the_experiments_that_would_go(world: World) -> None:
    empty, full, used = (world.experiments.create(name).id for name in ("empty", "full", "used"))
    world.runs.finish(world.runs.start("full").id)
    held = world.runs.start("used").id
    world.runs.finish(held)
    for id in (empty, full, used):
        world.experiments.delete(id)
    world.storage.hold(f"run:{held}", "case 14")
    trial, done = world.collect(dry_run=True), world.collect()
    assert (trial.experiments, trial.runs) == (done.experiments, done.runs) == (2, 1)
    assert world.experiments.find("used") is not None


def test_a_signature_goes_with_the_last_version_that_holds_what_it_signs(world: World) -> None:
    ref, digest = world.version(b"x")
    world.models.create("copy")
    copy = world.models.register_source("copy", "", copy_of=ref).ref
    signature = world.stores.objects.put_bytes(b"a signature")
    row = {"project": "default", "bundle": digest, "key": "k", "public_key": "", "signature": signature, "actor": "ada"}
    with world.stores.db.begin() as tx:
        tx.execute(model_signatures.insert().values(signed_at=world.stores.clock.now(), **row))
    world.models.delete_version(ref)
    assert world.collect().versions == 1
    assert world.there(signature)
    world.models.delete_version(copy)
    trial, done = world.collect(dry_run=True), world.collect()
    assert (trial.versions, trial.portions) == (done.versions, done.portions)
    assert not world.there(signature)
    with world.stores.db.read() as connection:
        assert connection.execute(model_signatures.select()).all() == []
