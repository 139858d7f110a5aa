"""Registered names: tags, stages, renaming, deletion and search, on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from loopwright.core import Conflict, Invalid, NotFound, Scope, new_id
from loopwright.models import Bundle, ModelService, Stage, reading
from loopwright.store import Stores


@pytest.fixture
def registry(stores: Stores) -> ModelService:
    return ModelService(stores, Scope(actor="user:ada"))


def test_a_name_is_made_once_and_keeps_what_it_was_made_with(registry: ModelService) -> None:
    made = registry.create("arrival delay (ä)", {"team": "ops", "empty": ""}, "minutes late")
    assert made == registry.named("arrival delay (ä)")
    assert (made.tags, made.description, made.latest) == ({"team": "ops", "empty": ""}, "minutes late", 0)
    with pytest.raises(Conflict, match="there is a model 'arrival delay"):
        registry.create("arrival delay (ä)")
    assert [event.kind for event in registry.stores.events.read()] == ["model.created"]


def test_of_many_that_make_the_same_name_at_once_one_makes_it(registry: ModelService) -> None:
    def make(number: int) -> str:
        try:
            return registry.create("delay", {"by": str(number)}).tags["by"]
        except Conflict:
            return ""

    with ThreadPoolExecutor(8) as pool:
        made = [by for by in pool.map(make, range(8)) if by]
    assert len(made) == 1
    assert registry.named("delay").tags == {"by": made[0]}


@pytest.mark.parametrize("name", ["", "  ", "a/b", "a:b", "a@b", "..", "x" * 257, "a\nb"])
def test_a_name_that_a_ref_could_not_carry_is_refused(registry: ModelService, name: str) -> None:
    with pytest.raises(Invalid, match="cannot name a model"):
        registry.create(name)


def test_tags_are_set_and_taken_away_one_by_one(registry: ModelService) -> None:
    registry.create("delay", {"a": "1", "b": "2"})
    changed = registry.describe("delay", tags={"a": None, "c": "", "never": None})
    assert changed.tags == {"b": "2", "c": ""}
    assert registry.describe("delay", description="later").tags == changed.tags
    with pytest.raises(Invalid, match="the limit is 100,000"):
        registry.describe("delay", tags={"b": "x" * 100_001})
    assert registry.named("delay").tags == changed.tags


def test_a_bundle_is_registered_under_a_name_that_has_none_yet(registry: ModelService, bundle: Bundle) -> None:
    registry.create("arrival delay (ä)")
    registry.register_source("arrival delay (ä)", "s3://bucket/model")
    held = registry.register("arrival delay (ä)", bundle)
    assert registry.servable("arrival delay (ä)") == held
    assert [item.kind for item in registry.versions("arrival delay (ä)")] == ["bundle", "elsewhere"]
    with pytest.raises(Conflict, match="no files here"):
        registry.servable("arrival delay (ä)@1")


def test_a_page_may_have_more_names_than_one_query_asks_for(
    registry: ModelService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_CHUNK", 3)
    for name in "abcdefgh":
        registry.create(name)
        registry.register_source(name, "s3://bucket/model")
        registry.set_alias(name, f"is-{name}", 1)
    found = registry.search_versions(limit=200_000, order_by=("name",)).versions
    assert [item.aliases for item in found] == [(f"is-{name}",) for name in "abcdefgh"]


def test_a_stage_archives_what_else_is_in_it_when_asked(registry: ModelService, bundle: Bundle) -> None:
    for _ in range(3):
        registry.register("delay", bundle, run=new_id())
    registry.transition("delay@1", Stage.PRODUCTION)
    registry.transition("delay@2", Stage.PRODUCTION)
    assert registry.transition("delay@3", Stage.PRODUCTION, archive_others=True).stage is Stage.PRODUCTION
    assert [item.stage for item in registry.versions("delay")] == ["Production", "Archived", "Archived"]
    assert [(item.version, item.stage) for item in registry.latest(("delay",))] == [(2, "Archived"), (3, "Production")]
    assert [item.version for item in registry.latest(("delay",), (Stage.PRODUCTION,))] == [3]
    with pytest.raises(Invalid, match="not an Active stage"):
        registry.transition("delay@3", Stage.ARCHIVED, archive_others=True)
    moves = registry.stores.events.read(kinds=["model.stage_moved"])
    assert [(event.subject, event.evidence["to"]) for event in moves][2:] == [
        ("model:delay@1", "Archived"),
        ("model:delay@2", "Archived"),
        ("model:delay@3", "Production"),
    ]


def test_old_refs_lead_to_the_new_name(registry: ModelService, bundle: Bundle) -> None:
    registry.register("delay", bundle, tags={"team": "ops"})
    registry.set_alias("delay", "champion", 1)
    renamed = registry.rename("delay", "lateness")
    assert (renamed.name, renamed.aliases) == ("lateness", {"champion": 1})
    assert registry.get("delay@champion").ref == registry.resolve("delay@1") == "model:lateness@1"
    assert [item.name for item in registry.list()] == ["lateness"]
    assert registry.search_versions("tags.team = 'ops'").versions[0].ref == "model:lateness@1"
    registry.set_alias("delay", "next", 1)
    assert registry.named("lateness").aliases == {"champion": 1, "next": 1}
    trace = registry.stores.lineage.trace("model:delay@1", "down")
    assert "model:lateness@1" in [node.ref for node in trace.nodes]


def test_a_name_can_be_taken_back(registry: ModelService, bundle: Bundle) -> None:
    registry.register("a", bundle)
    registry.rename("a", "b")
    assert registry.rename("b", "a").name == "a"
    assert registry.get("b@1").ref == "model:a@1"


def test_a_name_that_is_taken_refuses_another_model(registry: ModelService, bundle: Bundle) -> None:
    registry.register("a", bundle)
    registry.register("b", bundle)
    with pytest.raises(Conflict, match="there is a model 'b' already"):
        registry.rename("a", "b")
    registry.delete("b")
    with pytest.raises(Conflict, match="its version numbers are taken"):
        registry.rename("a", "b")
    assert registry.get("a@1").name == "a"


def test_a_deleted_version_is_gone_and_its_number_taken(registry: ModelService, bundle: Bundle) -> None:
    for _ in range(2):
        registry.register("delay", bundle, run=new_id())
    registry.set_alias("delay", "champion", 2)
    registry.delete_version("delay@2")
    assert registry.resolve("delay") == "model:delay@1"
    assert registry.named("delay").aliases == {}
    with pytest.raises(NotFound, match="no version 2; the newest is 1"):
        registry.get("delay@2")
    assert registry.register("delay", bundle, run=new_id()).version == 3
    assert [item.version for item in registry.versions("delay")] == [3, 1]


def test_a_deleted_name_may_be_made_again_but_its_numbers_go_on(registry: ModelService, bundle: Bundle) -> None:
    first = registry.register("delay", bundle, tags={"team": "ops"})
    registry.set_alias("delay", "champion", 1)
    registry.delete("delay")
    with pytest.raises(NotFound, match="there is no model 'delay'"):
        registry.get(first.ref)
    assert registry.list() == []
    assert registry.search_versions().versions == []
    again = registry.create("delay")
    assert (again.tags, again.description, again.aliases) == ({}, "", {})
    assert registry.register("delay", bundle).ref == "model:delay@2"


def test_a_search_pages_through_all_names_once(registry: ModelService) -> None:
    names = [f"model-{number:02}" for number in range(7)]
    for number, name in enumerate(names):
        registry.create(name, {"parity": "odd" if number % 2 else "even", "only": str(number)})
    seen: list[str] = []
    after = ""
    while True:
        page = registry.search("name LIKE 'model-%'", ("name DESC",), limit=3, after=after)
        seen += [item.name for item in page.models]
        after = page.next
        if not after:
            break
    assert seen == names[::-1]
    odd = registry.search("tags.parity = 'odd' AND name != 'model-01'").models
    assert [item.name for item in odd] == ["model-03", "model-05"]
    assert [item.name for item in registry.search(without_tag={"parity": "even"}).models] == names[1::2]
    assert registry.search("name ilike 'MODEL-00'").models[0].name == "model-00"
    assert registry.search("name LIKE 'MODEL%'").models == []
    assert [item.name for item in registry.search("name IN ('model-02', 'model-04', 'x')").models] == names[2:5:2]


def test_versions_are_found_by_number_run_source_and_tag(registry: ModelService, bundle: Bundle) -> None:
    runs = [new_id() for _ in range(4)]
    for run in runs:
        registry.register("delay", bundle, run=run, tags={"run": run})
    registry.register("other", bundle, run=runs[0])

    def found(filter: str, *order: str) -> list[str]:
        return [item.ref.removeprefix("model:") for item in registry.search_versions(filter, order).versions]

    assert found("name = 'delay' and version_number >= 3", "version_number") == ["delay@3", "delay@4"]
    assert found(f"run_id IN ('{runs[0]}', '{runs[1]}')", "name", "version_number") == ["delay@1", "delay@2", "other@1"]
    assert found(f"tags.run = '{runs[2]}'") == ["delay@3"]
    assert found("")[0] == "other@1"
    assert registry.tag_version("delay@1", {"run": None}).tags == {}
    assert found(f"tags.`run` = '{runs[0]}'") == []
    assert found("") == ["delay@1", "other@1", "delay@4", "delay@3", "delay@2"]


@pytest.mark.parametrize(
    "filter",
    [
        "nothing = 'x'",
        "name > 'x'",
        "name = x",
        "name = 'a' OR name = 'b'",
        "(" * 10_000,
        "name IN 'a'",
        "name IN (1)",
        "metrics.auc > 1",
        "name = 'a'; DROP TABLE models",
        "name = 'a' AND",
        "x" * 20_001,
    ],
)
def test_what_is_no_filter_is_refused_with_its_place(registry: ModelService, filter: str) -> None:
    with pytest.raises(Invalid):
        registry.search(filter)


def test_a_filter_cannot_leave_its_quotes(registry: ModelService) -> None:
    registry.create("delay")
    assert registry.search("name = ''' OR 1=1 --'").models == []
    assert registry.search("tags.`x' OR '1'='1` = 'y'").models == []
    assert registry.search("name LIKE '[d]*'").models == []


@pytest.mark.parametrize("token", ["x", "AAAA", "gqZzZWFyY2igpnZhbHVlc5A=", "é"])
def test_a_token_that_we_did_not_write_is_refused(registry: ModelService, token: str) -> None:
    with pytest.raises(Invalid, match="Invalid page token"):
        registry.search(after=token)


def test_a_token_belongs_to_its_search(registry: ModelService) -> None:
    for name in "abc":
        registry.create(name)
    page = registry.search(limit=1)
    assert [item.name for item in registry.search(limit=1, after=page.next).models] == ["b"]
    with pytest.raises(Invalid, match="Invalid page token"):
        registry.search("name != 'b'", limit=1, after=page.next)
