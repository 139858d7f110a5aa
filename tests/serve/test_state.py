"""The state document is whole or not there, and says only what can be served."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from loopwright.core import Corrupt, Invalid, LoopwrightError, NotFound
from loopwright.serve import ServedEndpoint, ServingState, Variant, read_state, write_state


def variant(name: str = "champion", model: str = "model:m@1", weight: float = 1.0, bundle: str = "a" * 64) -> Variant:
    return Variant(name, model, bundle, weight)


def endpoint(*variants: Variant, name: str = "e") -> ServedEndpoint:
    return ServedEndpoint(name, "salt", variants or (variant(),))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    state = ServingState(3, (endpoint(variant(), variant("candidate", "model:m@2", 0.1)),))
    write_state(tmp_path / "deep" / "state.json", state)
    assert read_state(tmp_path / "deep" / "state.json") == state
    assert state.endpoints[0].variants[1].version == "2"


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (ServingState(1, (endpoint(), endpoint())), "names an endpoint twice"),
        (ServingState(1, (endpoint(variant(), variant()),)), "names a variant twice"),
        (ServingState(1, (endpoint(variant(weight=0.0)),)), "no variant with a weight"),
        (ServingState(1, (endpoint(variant(), variant("b", weight=-1.0)),)), "has weight -1"),
        (ServingState(1, (endpoint(variant(), variant("b", weight=float("nan"))),)), "has weight nan"),
        (ServingState(1, (endpoint(variant(model="model:m@champion")),)), "names no version"),
        (ServingState(1, (endpoint(variant(bundle="../../etc")),)), "no bundle digest"),
        (ServingState(1, (endpoint(name="a/b"),)), "cannot name a endpoint"),
    ],
)
def test_a_state_that_cannot_be_served_is_not_written(tmp_path: Path, broken: ServingState, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        write_state(tmp_path / "state.json", broken)
    assert list(tmp_path.iterdir()) == []


def test_damage_and_absence_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_state(tmp_path / "state.json")
    (tmp_path / "state.json").write_text('{"revision": "one"')
    with pytest.raises(Corrupt):
        read_state(tmp_path / "state.json")


@pytest.mark.slow
def test_a_reader_never_sees_half_a_document(tmp_path: Path) -> None:
    path, stop, troubles = tmp_path / "state.json", threading.Event(), []
    write_state(path, ServingState(0))

    def read() -> None:
        while not stop.is_set():
            try:
                read_state(path)
            except LoopwrightError as error:
                troubles.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for revision in range(150):
        write_state(path, ServingState(revision, tuple(endpoint(name=f"e{n}") for n in range(revision % 20))))
    stop.set()
    reader.join()
    assert troubles == []
    assert [item.name for item in tmp_path.iterdir()] == ["state.json"]
