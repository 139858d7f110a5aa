"""Evaluation sets: kept, searched, filled, used and deleted; on both databases."""

from __future__ import annotations

import pytest

from loopwright.core import Invalid, NotFound, Scope
from loopwright.store import Stores
from loopwright.track import EvalSetService, EvalUpsert, ExperimentService, NewEvalRecord
from loopwright.track.evalsets import service as service_module


@pytest.fixture
def sets(stores: Stores) -> EvalSetService:
    return EvalSetService(stores, Scope(actor="user:ada"))


def test_records_with_the_same_inputs_are_one(sets: EvalSetService) -> None:
    made = sets.create("qa", tags={"team": "ml"}, user="ann")
    assert (made.created_by, made.records, made.tags) == ("ann", 0, {"team": "ml"})
    first = NewEvalRecord(inputs={"q": "a", "n": 1}, expectations={"x": 1}, tags={"t": "1"}, outputs="old")
    again = NewEvalRecord(inputs={"n": 1, "q": "a"}, expectations={"y": [2]}, tags={"mlflow.user": "bob"})
    other = NewEvalRecord(inputs={"q": "b"}, outputs={"score": 0.5})
    assert sets.upsert(made.id, [first, other, first]) == EvalUpsert(2, 1)
    assert sets.upsert(made.id, [again]) == EvalUpsert(0, 1)
    one, two = sets.records(made.id).records
    assert (one.inputs, one.outputs, one.expectations) == ({"q": "a", "n": 1}, "old", {"x": 1, "y": [2]})
    assert (one.tags, one.updated_by, one.created_by) == ({"t": "1", "mlflow.user": "bob"}, "bob", "user:ada")
    held = sets.get(made.id)
    assert held.fields["inputs"] == {"n": "integer", "q": "string"}
    assert held.fields["expectations"] == {"x": "integer", "y": "array"}
    assert held.digest != made.digest
    page = sets.records(made.id, limit=1)
    assert [*page.records, *sets.records(made.id, 1, page.next).records] == [one, two]
    assert (sets.delete_records(made.id, [one.id, "dr-0"]), sets.get(made.id).records) == (1, 1)


def test_sets_are_found_by_name_tag_and_experiment(sets: EvalSetService) -> None:
    experiments = ExperimentService(sets.stores, sets.scope)
    ids = [experiments.create(name).id for name in ("one", "two")]
    made = [sets.create(f"set {n}", ["one"] if n else [], {"n": str(n)}) for n in range(3)]
    sets.use(made[0].id, [ids[1], "two"])
    assert sets.get(made[0].id).experiments == (ids[1],)
    assert [item.name for item in sets.search([ids[0]]).sets] == ["set 2", "set 1"]
    assert [item.name for item in sets.search(filter="tags.n = '1' AND name LIKE 'set%'").sets] == ["set 1"]
    page = sets.search(order_by=["name ASC"], limit=2)
    following = sets.search(order_by=["name ASC"], limit=2, after=page.next)
    assert [item.id for item in (*page.sets, *following.sets)] == [item.id for item in made]
    assert sets.disuse(made[1].id, ids).experiments == ()
    assert sets.set_tags(made[1].id, {"n": "9"}).tags == {"n": "9"}
    assert (sets.delete_tag(made[1].id, "n"), sets.delete_tag(made[1].id, "n")) == (True, False)
    sets.delete(made[0].id)
    assert len(sets.search().sets) == 2
    other = EvalSetService(sets.stores, Scope("other", "user:eve"))
    for refused in (lambda: sets.get(made[0].id), lambda: other.get(made[1].id), lambda: sets.use(made[1].id, ["no"])):
        with pytest.raises(NotFound):
            refused()
    for filter in ("colour = 'x'", "created_at > 'x'"):
        with pytest.raises(Invalid):
            sets.search(filter=filter)


def test_sets_and_their_pages_are_bounded(sets: EvalSetService, monkeypatch: pytest.MonkeyPatch) -> None:
    made = sets.create("qa")
    with pytest.raises(Invalid, match="the limit is"):
        sets.upsert(made.id, [NewEvalRecord(inputs={"q": "x" * (1 << 20)})])
    monkeypatch.setattr(service_module, "_MAX_RECORDS", 3)
    monkeypatch.setattr(service_module, "_MAX_PAGE_BYTES", 300)
    sets.upsert(made.id, [NewEvalRecord(inputs={"q": f"{n}" * 200}) for n in range(3)])
    page = sets.records(made.id)
    assert (len(page.records), len(sets.records(made.id, after=page.next).records)) == (1, 1)
    with pytest.raises(Invalid, match="would have over 3"):
        sets.upsert(made.id, [NewEvalRecord(inputs={})])
