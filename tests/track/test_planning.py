"""The choice between walking runs in order and meeting ranges of indexes, as a function of counts."""

from __future__ import annotations

import pytest

from loopwright.track.search.planning import COUNT_CAP, Order, Sizes, ranges_to_meet

MANY = 100_000


@pytest.mark.parametrize(
    ("sizes", "order", "met"),
    [
        (Sizes(MANY, (10, 9_000), 0), Order.BY_INDEX, (0,)),  # few match: probe them
        (Sizes(MANY, (0, 0), 0), Order.BY_INDEX, (0, 1)),
        (Sizes(MANY, (COUNT_CAP, COUNT_CAP), 0), Order.BY_INDEX, ()),  # most match: a short walk finds a page
        (Sizes(MANY, (), 1), Order.BY_INDEX, ()),  # no index narrows anything
        (Sizes(MANY, (9_000, 9_000), 0), Order.SORTED, (0, 1)),  # no order to walk in
        (Sizes(MANY, (9_000, 9_000), 0, (True, False)), Order.BY_INDEX, ()),  # the walk begins in a range
        (Sizes(100, (50, 60), 0), Order.BY_INDEX, (0, 1)),
    ],
)
def test_the_cheaper_way_is_chosen(sizes: Sizes, order: Order, met: tuple[int, ...]) -> None:
    assert ranges_to_meet(sizes, 100, order) == met


def test_a_longer_page_makes_a_walk_dearer() -> None:
    sizes = Sizes(MANY, (15_000,), 0)
    assert ranges_to_meet(sizes, 10, Order.BY_INDEX) == ()
    assert ranges_to_meet(sizes, 50_000, Order.BY_INDEX) == (0,)
