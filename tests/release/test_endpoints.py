"""Endpoints: what is asked for is what is published, what is published is what the database says."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.release.world import World, bundle_of

from loopwright.core import Conflict, Invalid, NotFound, Scope, new_id
from loopwright.release.publishing import state_file
from loopwright.serve import LogPolicy, read_state
from loopwright.serve.model import KeyLogging


def test_an_endpoint_waits_for_its_first_version(world: World) -> None:
    created = world.endpoints.create("delay", "delay")
    assert (created.stable, created.shares) == ("", ())
    assert world.endpoints.served().endpoints == ()
    assert world.endpoints.create("delay", "model:delay") == created
    assert world.kinds("endpoint.") == ["endpoint.created"]


def test_a_version_may_take_all_traffic_at_once(world: World) -> None:
    version = world.register("weak")
    created = world.endpoints.create("delay", version.ref)
    assert created.stable == version.ref
    assert world.served() == {version.ref: 1.0}
    assert "champion" in world.models.get(version.ref).aliases
    assert world.kinds("endpoint.", "model.") == [
        "model.version_created",
        "endpoint.created",
        "endpoint.traffic_set",
        "model.alias_moved",
    ]


def test_shares_set_by_hand_are_published_and_can_be_taken_back(world: World) -> None:
    first, second = world.register("weak"), world.register("strong")
    world.endpoints.create("delay", first.ref)
    changed = world.endpoints.set_traffic("delay", {first.ref: 0.3, second.ref: 0.7})
    assert changed.stable == second.ref
    assert world.served() == {first.ref: 0.3, second.ref: 0.7}
    assert world.endpoints.roll_back("delay").stable == first.ref
    assert world.served() == {first.ref: 1.0}
    assert world.models.resolve("model:delay@champion") == first.ref


def test_the_event_names_what_was_before_and_after(small_world: World) -> None:
    first, second = small_world.register("weak"), small_world.register("strong")
    small_world.endpoints.create("delay", first.ref)
    scope = Scope(actor="user:ada", cause="request:1")
    small_world.scoped(scope).endpoints.set_traffic("delay", {second.ref: 1.0}, reason="a hunch")
    event = small_world.stores.events.latest(limit=1, kinds=("endpoint.traffic_set",))[0]
    assert (event.actor, event.cause, event.subject) == ("user:ada", "request:1", "endpoint:delay")
    assert event.evidence["before"] == {first.ref: 1.0}
    assert event.evidence["after"] == {second.ref: 1.0}
    assert event.evidence["reason"] == "a hunch"


def test_the_lineage_says_which_versions_an_endpoint_served(small_world: World) -> None:
    version = small_world.register("weak")
    small_world.endpoints.create("delay", version.ref)
    trace = small_world.stores.lineage.trace("endpoint:delay", "up", project="default")
    assert (version.ref, "endpoint:delay", "serves") in {(edge.source, edge.target, edge.role) for edge in trace.edges}


@pytest.mark.parametrize(
    ("shares", "said"),
    [({}, "add up to 0"), ({"model:delay@1": 0.5}, "add up to 0.5"), ({"model:delay@1": 1.5}, "add up to 1.5")],
)
def test_shares_that_are_no_whole_are_refused(small_world: World, shares: dict[str, float], said: str) -> None:
    small_world.endpoints.create("delay", small_world.register("weak").ref)
    with pytest.raises(Invalid, match=said):
        small_world.endpoints.set_traffic("delay", shares)


def test_what_does_not_exist_is_not_found(small_world: World) -> None:
    with pytest.raises(NotFound, match="no endpoint 'delay'"):
        small_world.endpoints.get("delay")
    with pytest.raises(NotFound):
        small_world.endpoints.create("delay", "model:delay@7")
    assert small_world.endpoints.list() == []


def test_a_version_of_another_model_is_refused(small_world: World) -> None:
    small_world.endpoints.create("delay", "delay")
    from tests.release.world import bundle_of

    other = small_world.models.register("other", bundle_of("weak"))
    with pytest.raises(Invalid, match="not a version of model:delay"):
        small_world.endpoints.set_traffic("delay", {other.ref: 1.0})


def test_an_endpoints_name_belongs_to_one_project(world: World) -> None:
    world.endpoints.create("delay", "delay")
    with pytest.raises(Conflict, match="exists already"):
        world.scoped(Scope(project="other")).endpoints.create("delay", "delay")
    assert world.scoped(Scope(project="other")).endpoints.list() == []


def test_without_a_version_before_there_is_no_way_back(world: World) -> None:
    world.endpoints.create("delay", world.register("weak").ref)
    with pytest.raises(Conflict, match="had no version before"):
        world.endpoints.roll_back("delay")


def test_the_file_is_rewritten_from_the_database_when_it_is_lost_or_stale(small_world: World) -> None:
    version = small_world.register("weak")
    small_world.endpoints.create("delay", version.ref)
    path = small_world.stores.data / "serving" / "state.json"
    written = path.read_bytes()
    path.unlink()
    small_world.endpoints.publish()
    assert path.read_bytes() == written
    path.write_bytes(b'{"revision":0,"endpoints":[]}')
    small_world.endpoints.publish()
    assert path.read_bytes() == written
    stamp = path.stat().st_mtime_ns
    small_world.endpoints.publish()
    assert path.stat().st_mtime_ns == stamp, "publishing what is published already writes nothing"


def test_racing_changes_end_with_the_file_at_the_newest_truth(world: World) -> None:
    first, second = world.register("weak"), world.register("strong")
    world.endpoints.create("delay", first.ref)
    revisions: list[int] = []
    stop = threading.Event()

    def watch() -> None:
        path = world.stores.data / "serving" / "state.json"
        while not stop.is_set():
            revisions.append(read_state(path).revision)

    def change(number: int) -> int:
        share = number / 10
        try:
            world.endpoints.set_traffic("delay", {first.ref: 1 - share, second.ref: share})
        except Conflict:
            return 0
        return 1

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(4) as pool:
        done = sum(pool.map(change, range(1, 10)))
    stop.set()
    watcher.join()
    assert done >= 1
    assert read_state(world.stores.data / "serving" / "state.json") == world.endpoints.served()
    assert revisions == sorted(revisions), "a reader never sees an older state after a newer one"


def test_a_model_of_the_longest_name_is_served(world: World) -> None:
    name = "n" * 256
    first, second = (world.models.register(name, bundle_of("weak"), run=new_id()).ref for _ in range(2))
    world.endpoints.create("delay", first)
    world.endpoints.set_traffic("delay", {second: 1.0})
    assert world.endpoints.roll_back("delay").stable == first
    assert world.endpoints.get("delay").model == name


def test_what_is_logged_is_set_by_hand_published_and_kept_by_a_change_of_traffic(small_world: World) -> None:
    first = small_world.register("weak")
    small_world.endpoints.create("delay", first.ref)
    name, *_ = small_world.models.manifest(first.ref).signature.names
    changed = small_world.endpoints.set_log("delay", sample=0.25, hash=[name], keys="drop")
    assert changed.log == LogPolicy(sample=0.25, hash=(name,), keys=KeyLogging.DROP)
    second = small_world.register("strong")
    small_world.endpoints.set_traffic("delay", {second.ref: 1.0})
    (served,) = read_state(state_file(small_world.stores.data)).endpoints
    assert served.log == changed.log
    assert "endpoint.log_set" in small_world.kinds("endpoint.")
    assert small_world.endpoints.set_log("delay").log == LogPolicy()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"drop": ["emial"]}, "'emial', which no version takes"),
        ({"sample": 1.5}, "sample is 1.5"),
        ({"sample": float("nan")}, "sample is nan"),
        ({"keys": "blur"}, "keep, hash or drop"),
        ({"drop": ["a"], "hash": ["a"]}, "both dropped and hashed"),
    ],
)
def test_a_log_policy_that_would_not_do_what_it_says_is_refused(
    small_world: World, given: dict[str, Any], message: str
) -> None:
    small_world.endpoints.create("delay", small_world.register("weak").ref)
    before = small_world.endpoints.get("delay")
    with pytest.raises(Invalid, match=message):
        small_world.endpoints.set_log("delay", **given)
    assert small_world.endpoints.get("delay") == before
