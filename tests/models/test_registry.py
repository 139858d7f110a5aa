"""Names, versions, aliases, cards; each change with its event and lineage."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from tests.models.conftest import Trips

from loopwright.core import Corrupt, Invalid, NotFound, Scope, new_id
from loopwright.models import Bundle, ModelService, fetch_bundle
from loopwright.store import Stores, open_objects


@pytest.fixture
def registry(stores: Stores) -> ModelService:
    return ModelService(stores, Scope(actor="user:ada"))


def _kinds(registry: ModelService) -> list[str]:
    return [event.kind for event in registry.stores.events.read()]


def test_a_registered_bundle_is_found_by_number_and_as_the_newest(registry: ModelService, bundle: Bundle) -> None:
    first = registry.register("delay", bundle, run=new_id(), metrics={"brier": 0.1})
    assert (first.ref, first.version, first.actor) == ("model:delay@1", 1, "user:ada")
    assert first.metrics == {"auc": 0.8, "brier": 0.1}
    assert registry.get("model:delay") == registry.get("delay@1") == first
    assert _kinds(registry) == ["model.version_created"]


def test_the_same_bundle_of_the_same_run_is_one_version(registry: ModelService, bundle: Bundle) -> None:
    run = new_id()
    assert registry.register("delay", bundle, run=run) == registry.register("delay", bundle, run=run)
    assert registry.register("delay", bundle, run=new_id()).version == 2
    assert [item.version for item in registry.versions("delay")] == [2, 1]


def test_an_alias_moves_and_tells_from_where(registry: ModelService, bundle: Bundle) -> None:
    for _ in range(2):
        registry.register("delay", bundle, run=new_id())
    registry.set_alias("delay", "champion", 1)
    moved = registry.set_alias("delay", "champion", 2)
    registry.set_alias("delay", "champion", 2)
    assert moved.aliases == ("champion",)
    assert registry.resolve("model:delay@champion") == "model:delay@2"
    assert registry.list()[0].aliases == {"champion": 2}
    events = registry.stores.events.read(kinds=["model.alias_moved"])
    assert [event.evidence for event in events] == [
        {"alias": "champion", "from": None, "to": 1},
        {"alias": "champion", "from": 1, "to": 2},
    ]


def test_an_alias_moves_inside_the_transaction_of_a_decision_or_not_at_all(
    registry: ModelService, bundle: Bundle
) -> None:
    registry.register("delay", bundle)

    def decide() -> None:
        with registry.stores.db.begin() as tx:
            registry.move_alias(tx, "delay", "champion", 1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        decide()
    assert registry.get("delay").aliases == ()
    assert _kinds(registry) == ["model.version_created"]


def test_a_removed_alias_is_gone(registry: ModelService, bundle: Bundle) -> None:
    registry.register("delay", bundle)
    registry.set_alias("delay", "champion", 1)
    registry.remove_alias("delay", "champion")
    with pytest.raises(NotFound, match="no alias 'champion'"):
        registry.get("delay@champion")


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("model:other", "no model 'other'"),
        ("model:delay@7", "no version 7; the newest is 1"),
        ("model:delay@best", "no alias 'best'"),
    ],
)
def test_what_is_not_there_is_named(registry: ModelService, bundle: Bundle, ref: str, message: str) -> None:
    registry.register("delay", bundle)
    with pytest.raises(NotFound, match=message):
        registry.get(ref)


@pytest.mark.parametrize("alias", ["7", "a b", ""])
def test_an_alias_that_reads_as_something_else_is_refused(registry: ModelService, bundle: Bundle, alias: str) -> None:
    registry.register("delay", bundle)
    with pytest.raises(Invalid):
        registry.set_alias("delay", alias, 1)


def test_lineage_leads_from_the_version_to_its_run_data_and_environment(registry: ModelService, bundle: Bundle) -> None:
    run = new_id()
    version = registry.register("delay", bundle, run=run, training_data=["dataset:weather@4"])
    found = {node.ref for node in registry.stores.lineage.trace(version.ref, "up").nodes}
    assert found >= {
        f"run:{run}",
        "dataset:trips@1",
        "dataset:weather@4",
        f"bundle:{version.bundle}",
        f"environment:{bundle.manifest.environment}",
    }


def test_the_bundle_comes_back_whole_and_answers(registry: ModelService, bundle: Bundle, trips: Trips) -> None:
    version = registry.register("delay", bundle)
    back = registry.bundle(version.ref)
    assert back.manifest == bundle.manifest == registry.manifest("delay")
    assert registry.predict("delay", trips.rows.head(5)).columns == ["label", "probability"]
    assert registry.profile("delay").rows == trips.rows.height


@pytest.mark.parametrize("name", ["model.onnx", "bundle.json"])
def test_a_damaged_copy_in_the_cache_is_fetched_again(registry: ModelService, bundle: Bundle, name: str) -> None:
    version = registry.register("delay", bundle)
    kept = registry.bundle(version.ref).folder / name
    whole = kept.read_bytes()
    kept.write_bytes(whole.replace(b'"wind"', b'"rain"') if name == "bundle.json" else whole[:-1])
    assert kept.read_bytes() != whole
    assert (registry.bundle(version.ref).folder / name).read_bytes() == whole


def test_a_copy_in_the_cache_is_whole_without_the_store(registry: ModelService, bundle: Bundle) -> None:
    version = registry.register("delay", bundle)
    kept = registry.bundle(version.ref).folder
    nowhere = open_objects(str(kept.parent / "nowhere"))
    assert fetch_bundle(nowhere, version.bundle, kept.parent).manifest == bundle.manifest


def test_a_damaged_bundle_is_not_registered(registry: ModelService, bundle: Bundle, tmp_path: Any) -> None:
    import shutil

    copy = shutil.copytree(bundle.folder, tmp_path / "copy")
    (copy / "model.onnx").write_bytes(b"other")
    with pytest.raises(Corrupt):
        registry.register("delay", copy)
    assert registry.list() == []


def test_projects_do_not_see_each_other(registry: ModelService, bundle: Bundle) -> None:
    registry.register("delay", bundle)
    other = ModelService(registry.stores, Scope(project="elsewhere"))
    assert other.list() == []
    with pytest.raises(NotFound):
        other.get("delay@1")


def test_versions_registered_at_once_get_numbers_without_gaps(registry: ModelService, bundle: Bundle) -> None:
    threads = [
        threading.Thread(target=registry.register, args=("delay", bundle), kwargs={"run": new_id()}) for _ in "1234"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [item.version for item in registry.versions("delay")] == [4, 3, 2, 1]


def test_names_are_listed_in_pages(registry: ModelService, bundle: Bundle) -> None:
    for name in ("a", "b", "c"):
        registry.register(name, bundle)
    assert [item.name for item in registry.list(limit=2)] == ["a", "b"]
    assert [item.name for item in registry.list(limit=2, after="b")] == ["c"]


def test_tags_are_added_and_taken_away(registry: ModelService, bundle: Bundle) -> None:
    registry.register("delay", bundle, tags={"team": "ops", "tier": "1"})
    changed = registry.annotate("delay@1", {"tier": "", "owner": "ada"}, "Late or not.")
    assert changed.tags == {"team": "ops", "owner": "ada"}
    assert registry.get("delay@1").description == "Late or not."


def test_the_card_tells_a_person_what_the_model_is(registry: ModelService, bundle: Bundle) -> None:
    registry.register("delay", bundle, description="Will it be late?")
    registry.set_alias("delay", "champion", 1)
    card = registry.card("delay")
    for words in (
        "# delay, version 1",
        "champion",
        "binary, of `late`",
        "| `carrier` | string | no | AA, UA, B6, DL |",
        "`dataset:trips@1`",
        "the bundle gives what the original gives",
        "| auc | 0.8 |",
    ):
        assert words in card
