"""Assignment is sticky, fair, and moves no key back and forth."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopwright.core import Invalid
from loopwright.serve import Variant, assign

names = st.lists(st.text("abcdef", min_size=1, max_size=3), min_size=2, max_size=5, unique=True)
weights = st.floats(0.01, 10)


def variants_of(weighted: dict[str, float]) -> list[Variant]:
    return [Variant(name, "model:m@1", "0" * 64, weight) for name, weight in weighted.items()]


@pytest.mark.slow
@given(names, st.data(), st.text(), st.lists(st.text(), min_size=1, max_size=50))
def test_when_one_share_grows_keys_move_to_it_only(
    found: list[str], data: st.DataObject, salt: str, keys: list[str]
) -> None:
    before = {name: data.draw(weights) for name in found}
    growing = data.draw(st.sampled_from(found))
    after = {**before, growing: before[growing] * data.draw(st.floats(1, 100))}
    for key in keys:
        was, now = assign(salt, key, variants_of(before)).name, assign(salt, key, variants_of(after)).name
        assert now in (was, growing)


@given(names, st.data(), st.text(), st.text())
def test_only_proportions_and_names_count(found: list[str], data: st.DataObject, salt: str, key: str) -> None:
    given_ = {name: data.draw(weights) for name in found}
    doubled = {name: 2 * weight for name, weight in reversed(given_.items())}
    assert assign(salt, key, variants_of(given_)).name == assign(salt, key, variants_of(doubled)).name


@pytest.mark.parametrize("shares", [{"a": 0.95, "b": 0.05}, {"a": 0.5, "b": 0.3, "c": 0.2}, {"a": 0.75, "b": 0.25}])
def test_each_variant_gets_its_share(shares: dict[str, float]) -> None:
    count = 40_000
    chosen = [assign("salt", str(key), variants_of(shares)).name for key in range(count)]
    for name, share in shares.items():
        spread = math.sqrt(share * (1 - share) / count)
        assert abs(chosen.count(name) / count - share) < 4 * spread


def test_a_rollout_by_steps_moves_each_key_once_at_most() -> None:
    steps = [0.0, 0.05, 0.25, 0.5, 1.0]
    for key in map(str, range(3000)):
        seen = [assign("s", key, variants_of({"old": 1 - step, "new": step})).name for step in steps]
        assert seen == sorted(seen, reverse=True)  # "old" … "new"


def test_another_salt_shuffles_the_keys() -> None:
    pair = variants_of({"a": 0.5, "b": 0.5})
    same = sum(assign("one", str(key), pair) is assign("two", str(key), pair) for key in range(10_000))
    assert 4800 < same < 5200


def test_the_assignment_of_today_is_that_of_tomorrow() -> None:
    pair = variants_of({"champion": 0.9, "candidate": 0.1})
    found = "".join(assign("salt", str(key), pair).name[1] for key in range(40))
    assert found == "hhhhhhhhhhhhahhhhhhhahhhhhhhhhhhhhhhhhhh"


def test_shadows_and_variants_without_weight_answer_nobody() -> None:
    silent = [Variant("s", "model:m@1", "0" * 64, 5.0, shadow=True), Variant("z", "model:m@1", "0" * 64, 0.0)]
    for key in map(str, range(200)):
        assert assign("", key, [*silent, *variants_of({"only": 0.1})]).name == "only"
    with pytest.raises(Invalid):
        assign("", "key", silent)
