"""The house: rooms in one order, entered by their face, without circles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest
from tests.shape.source import PACKAGE, imports, layers, modules

FRONT = {"", "__main__"}  # the package's own front files may name any room


@pytest.mark.slow
def test_every_room_has_its_place_in_the_order() -> None:
    rooms = {module.room for module in modules()} - FRONT
    assert rooms - set(layers()) == set()


def test_the_order_names_no_room_twice() -> None:
    assert len(set(layers())) == len(layers())


def test_a_room_imports_only_rooms_below_it() -> None:
    place = {room: number for number, room in enumerate(layers())}
    wrong = [
        f"{found.importer.shown}:{found.line} imports {found.target}"
        for found in imports()
        if (room := _room(found.target)) != found.importer.room
        and found.importer.room not in FRONT
        and room
        and place[room] < place[found.importer.room]
    ]
    assert wrong == []


def test_a_room_is_entered_by_its_face_only() -> None:
    wrong = [
        f"{found.importer.shown}:{found.line} imports {found.target}"
        for found in imports()
        if _room(found.target) != found.importer.room
        and found.importer.room not in FRONT
        and found.target.count(".") > 1
        and (PACKAGE / _room(found.target)).is_dir()
    ]
    assert wrong == []


def test_modules_stand_in_no_circle_not_even_by_imports_inside_functions() -> None:
    graph: dict[str, set[str]] = {module.name: set() for module in modules()}
    for found in imports():
        if not found.typing_only and found.target in graph and found.target != found.importer.name:
            graph[found.importer.name].add(found.target)
    assert [sorted(circle) for circle in circles(graph)] == []


def test_circles_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"e2"}, "e2": {"e"}}
    assert sorted(sorted(circle) for circle in circles(graph)) == [["a", "b", "c"], ["e", "e2"]]


def circles(graph: Mapping[str, Iterable[str]]) -> list[set[str]]:
    """The sets of nodes of which each can be reached from each (Tarjan 1972), of two or more."""
    found: list[set[str]] = []
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []

    def visit(node: str) -> None:
        number[node] = low[node] = len(number)
        stack.append(node)
        for target in graph[node]:
            if target not in number:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], number[target])
        if low[node] == number[node]:
            circle = set(stack[stack.index(node) :])
            del stack[stack.index(node) :]
            found.append(circle)

    for node in graph:
        if node not in number:
            visit(node)
    return [circle for circle in found if len(circle) > 1]


def _room(target: str) -> str:
    parts = target.split(".")
    return parts[1] if len(parts) > 1 else ""
