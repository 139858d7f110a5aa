"""The drawing of lineage: places and ways."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.ui.graph import BOX_H, BOX_W, draw
from loopwright.ui.layered import arrange, layers_of

NAMES = [f"n{number}" for number in range(9)]
pairs = st.tuples(st.integers(0, 8), st.integers(0, 8))
acyclic = st.sets(pairs.filter(lambda pair: pair[0] < pair[1])).map(
    lambda found: [(NAMES[a], NAMES[b]) for a, b in sorted(found)]
)
any_graph = st.sets(pairs).map(lambda found: [(NAMES[a], NAMES[b]) for a, b in sorted(found)])


@given(acyclic)
def test_whatever_is_made_from_something_stands_to_the_right_of_it(edges: list[tuple[str, str]]) -> None:
    layers = layers_of(NAMES, edges)
    assert all(layers[source] < layers[target] for source, target in edges)
    assert min(layers.values()) == 0


@given(any_graph)
@settings(deadline=None)
def test_no_two_things_stand_on_one_place_and_every_edge_has_its_way(edges: list[tuple[str, str]]) -> None:
    found = arrange(NAMES, edges)
    everything = [*found.places.values(), *(place for way in found.routes.values() for place in way)]
    assert len({(place.layer, place.row) for place in everything}) == len(everything)
    assert set(found.routes) == set(edges)
    for (source, target), way in found.routes.items():
        between = range(found.places[source].layer + 1, found.places[target].layer)
        assert [place.layer for place in way] == list(between)


@given(acyclic)
@settings(deadline=None)
def test_boxes_lie_apart_and_inside_the_picture(edges: list[tuple[str, str]]) -> None:
    drawing = draw("n0", NAMES, [_edge(*edge) for edge in edges], lambda ref: "")
    for box in drawing.boxes:
        assert 0 <= box.x <= drawing.width - BOX_W
        assert 0 <= box.y <= drawing.height - BOX_H
        for other in drawing.boxes:
            apart = abs(box.x - other.x) >= BOX_W or abs(box.y - other.y) >= BOX_H
            assert apart or box is other
    assert [box.ref for box in drawing.boxes if box.root] == ["n0"]


def _edge(source: str, target: str) -> dict[str, str]:
    return {"source": source, "target": target, "role": "input"}


def test_a_chain_of_thousands_is_drawn() -> None:
    nodes = [f"run:{number}" for number in range(3000)]
    edges = list(pairwise(nodes))
    assert arrange(nodes, edges).places[nodes[-1]].layer == 2999


def test_a_diamond_is_drawn_without_crossings() -> None:
    edges = [("a", "b1"), ("a", "b2"), ("b1", "c1"), ("b2", "c2")]
    places = arrange(["a", "b1", "b2", "c2", "c1"], edges).places
    assert (places["b1"].row < places["b2"].row) is (places["c1"].row < places["c2"].row)


@pytest.mark.parametrize("root", ["run:x", "dataset:a@1"])
def test_a_thing_alone_is_a_picture_too(root: str) -> None:
    drawing = draw(root, [], [], lambda ref: "/page")
    assert [(box.ref, box.href) for box in drawing.boxes] == [(root, "/page")]
