"""Pipelines are built into graphs; arguments, pins and cache keys are functions of values."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopwright.core import Invalid
from loopwright.pipeline import Graph, StepOptions, pipeline, step
from loopwright.pipeline.arguments import (
    cache_key,
    dataset_refs,
    fill,
    graph_dataset_refs,
    is_dataset_ref,
    needs,
    pinned_graph,
    pinned_value,
)
from loopwright.pipeline.model import Entries, FromStep, Items, Literal, Ready, StepCall, Stored


@step
def load(source: str, rows: int = 10) -> Any:
    return list(range(rows))


@step(cache=False, retries=2, timeout_s=5)
def fit(data: Any, rate: float = 0.1) -> Any:
    return {"model": sum(data), "rate": rate}


@step(effect=True)
def publish(models: Any) -> Any:
    return models


@pipeline
def train(source: str = "dataset:flights", rows: int = 3, names: list[str] | None = None) -> Any:
    data = load(source, rows)
    first, second = fit(data), fit(data["part"][0], rate=0.2)
    return {"model": first["model"], "all": publish([first, second, {"rows": rows}]), "names": names}


def test_calls_become_a_graph() -> None:
    graph = train.build(train.bind({"rows": "5"}))
    assert [call.name for call in graph.steps] == ["load", "fit", "fit-2", "publish"]
    assert graph.steps[0].arguments == {"source": Literal("dataset:flights"), "rows": Literal(5)}
    assert graph.steps[2].arguments == {"data": FromStep("load", ("part", 0)), "rate": Literal(0.2)}
    assert graph.steps[1].options == StepOptions(cache=False, retries=2, timeout_s=5)
    assert graph.steps[3].options == StepOptions(cache=False, effect=True)
    assert graph.steps[3].arguments["models"] == Items((FromStep("fit"), FromStep("fit-2"), Literal({"rows": 5})))
    assert [sorted(needs(call)) for call in graph.steps] == [[], ["load"], ["load"], ["fit", "fit-2"]]
    assert graph.outputs == {
        "model": FromStep("fit", ("model",)),
        "all": FromStep("publish"),
        "names": Literal(None),
    }
    assert msgspec.json.decode(msgspec.json.encode(graph), type=Graph) == graph


def test_outside_of_a_graph_steps_and_pipelines_are_plain_functions() -> None:
    assert load("x", 3) == [0, 1, 2]
    assert fit([1, 2]) == {"model": 3, "rate": 0.1}
    assert fit.__name__ == "fit"


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ({"row": 1}, "no parameter 'row'.*its parameters: source, rows, names"),
        ({"rows": "many"}, "parameter 'rows' of pipeline 'train'.*int"),
        ({"names": "a"}, "parameter 'names'"),
    ],
)
def test_parameters_are_checked_by_their_annotations(params: dict[str, Any], problem: str) -> None:
    with pytest.raises(Invalid, match=problem):
        train.bind(params)


def test_a_parameter_without_a_default_is_asked_for() -> None:
    @pipeline
    def needy(until: str) -> Any:
        return load(until)

    with pytest.raises(Invalid, match="needs the parameter 'until'"):
        needy.bind({})


def test_mistakes_while_a_graph_is_built_say_what_to_do() -> None:
    @pipeline
    def unpacks() -> Any:
        first, _second = load("x")
        return first

    @pipeline
    def decides() -> Any:
        return 1 if load("x") else 2

    @pipeline
    def hands_on() -> Any:
        return load(object())  # type: ignore[arg-type]  # the mistake

    @pipeline
    def miscalls() -> Any:
        return load(rowss=1)  # type: ignore[call-arg]  # the mistake

    @pipeline
    def idle() -> Any:
        return 1

    for wrong, problem in (
        (unpacks, r"select its parts with output\[0\]"),
        (decides, "not known while the pipeline is built"),
        (hands_on, r"load\(source=…\): a pipeline cannot hand on a object"),
        (miscalls, "cannot be called like this"),
        (idle, "calls no step"),
    ):
        with pytest.raises(Invalid, match=problem):
            wrong.build({})


def test_a_failed_build_leaves_no_builder_behind() -> None:
    @pipeline
    def broken() -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken.build({})
    assert load("x", 1) == [0]


def test_steps_inside_functions_have_no_name_that_another_process_could_use() -> None:
    @step
    def inner() -> int:
        return 1

    with pytest.raises(Invalid, match="defined inside a function"):
        _ = inner.ref


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dataset:a", True),
        ("dataset:a@3", True),
        ("dataset:", False),
        ("dataset:a b", False),
        ("model:a@1", False),
        ("a", False),
    ],
)
def test_dataset_refs_are_known_by_their_form(text: str, expected: bool) -> None:
    assert is_dataset_ref(text) is expected


def test_refs_are_found_and_pinned_wherever_they_stand() -> None:
    value = {"a": ["dataset:x", 1], "b": ("dataset:y@2",), "c": "x"}
    assert dataset_refs(value) == {"dataset:x", "dataset:y@2"}
    pinned = pinned_value(value, {"dataset:x": "dataset:x@7"})
    assert pinned == {"a": ["dataset:x@7", 1], "b": ["dataset:y@2"], "c": "x"}
    call = StepCall("s", "m:s", {"a": Entries({"k": Literal(value)}), "b": Literal("dataset:z")}, StepOptions())
    graph = Graph("m:p", (call,), {})
    assert graph_dataset_refs(graph) == {"dataset:x", "dataset:y@2", "dataset:z"}
    after = pinned_graph(graph, {"dataset:x": "dataset:x@7", "dataset:z": "dataset:z@1"})
    assert graph_dataset_refs(after) == {"dataset:x@7", "dataset:y@2", "dataset:z@1"}


A, B = Stored("json", "a" * 64), Stored("json", "b" * 64)
WHOLE = Stored("dict", "c" * 64, parts=(("left", A), ("right", B)))


def test_an_argument_is_only_the_part_that_is_used() -> None:
    assert fill(FromStep("s", ("left", "deep")), {"s": WHOLE}) == Ready(A, ("deep",))
    changed = msgspec.structs.replace(WHOLE, digest="d" * 64, parts=(("left", A), ("right", A)))
    call = StepCall("t", "m:t", {"x": FromStep("s", ("left",))}, StepOptions(), "code")

    def key(stored: Stored) -> str:
        arguments = {name: fill(argument, {"s": stored}) for name, argument in call.arguments.items()}
        return cache_key(call, arguments, environment="e", seed=0, digests={})

    assert key(WHOLE) == key(changed)
    with pytest.raises(Invalid, match=r"no part 'middle'.*left, right"):
        fill(FromStep("s", ("middle",)), {"s": WHOLE})


values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3),
    lambda x: st.lists(x, max_size=2),
    max_leaves=4,
)
keys = st.builds(
    lambda function, code, value, environment, seed, digest: (function, code, value, environment, seed, digest),
    st.sampled_from(["m:f", "m:g"]),
    st.sampled_from(["c1", "c2"]),
    values,
    st.sampled_from(["e1", "e2"]),
    st.integers(0, 1),
    st.sampled_from(["d1", "d2"]),
)


def key_of(item: tuple[str, str, Any, str, int, str]) -> str:
    function, code, value, environment, seed, digest = item
    call = StepCall("any name", function, {"x": Literal(value)}, StepOptions(retries=seed), code)
    arguments = {"x": Literal(value), "d": Literal("dataset:a@1")}
    return cache_key(call, arguments, environment=environment, seed=seed, digests={"dataset:a@1": digest})


@given(keys, keys)
def test_keys_are_equal_exactly_when_what_they_depend_on_is(a: Any, b: Any) -> None:
    assert (key_of(a) == key_of(b)) == (repr(a) == repr(b))
