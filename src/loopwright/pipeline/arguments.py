"""Arguments of step calls: what they need, how they are filled in, and the cache key that they lead to. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from loopwright.core import Invalid, digest_value, parse_ref
from loopwright.pipeline.codecs import part_of
from loopwright.pipeline.model import Argument, Entries, FromStep, Graph, Items, Literal, Ready, StepCall, Stored

_KEY_FORMAT = 1
_DATASET = "dataset:"


def needs(call: StepCall) -> set[str]:
    """The names of the steps whose outputs a call takes."""
    return {
        node.step for argument in call.arguments.values() for node in _nodes(argument) if isinstance(node, FromStep)
    }


def fill(argument: Argument, outputs: Mapping[str, Stored]) -> Argument:
    """The argument with every output of a step replaced by what is stored for it.

    Raises:
        Invalid: a selected part is not there.
    """
    return _replaced(argument, lambda node: _ready(node, outputs) if isinstance(node, FromStep) else node)


def dataset_refs(value: Any) -> set[str]:
    """The texts inside a value that are refs of datasets."""
    if isinstance(value, str):
        return {value} if is_dataset_ref(value) else set()
    if isinstance(value, Mapping):
        return set().union(*(dataset_refs(item) for item in value.values())) if value else set()
    if isinstance(value, list | tuple):
        return set().union(*(dataset_refs(item) for item in value)) if value else set()
    return set()


def is_dataset_ref(text: str) -> bool:
    """Whether a text is the ref of a dataset, with or without a version."""
    if not text.startswith(_DATASET):
        return False
    try:
        parse_ref(text, "dataset")
    except Invalid:
        return False
    return True


def graph_dataset_refs(graph: Graph) -> set[str]:
    """The refs of datasets that stand in a graph's arguments."""
    literals = (
        node.value
        for call in graph.steps
        for argument in call.arguments.values()
        for node in _nodes(argument)
        if isinstance(node, Literal)
    )
    return set().union(*(dataset_refs(value) for value in literals))


def pinned_value(value: Any, pins: Mapping[str, str]) -> Any:
    """The value with every text that has a pin replaced by it."""
    if isinstance(value, str):
        return pins.get(value, value)
    if isinstance(value, Mapping):
        return {key: pinned_value(item, pins) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [pinned_value(item, pins) for item in value]
    return value


def pinned_graph(graph: Graph, pins: Mapping[str, str]) -> Graph:
    """The graph with every ref of a dataset pinned to a version."""

    def pin(node: Argument) -> Argument:
        return Literal(pinned_value(node.value, pins)) if isinstance(node, Literal) else node

    steps = tuple(
        msgspec.structs.replace(
            call, arguments={name: _replaced(argument, pin) for name, argument in call.arguments.items()}
        )
        for call in graph.steps
    )
    return msgspec.structs.replace(graph, steps=steps)


def cache_key(
    call: StepCall, arguments: Mapping[str, Argument], *, environment: str, seed: int, digests: Mapping[str, str]
) -> str:
    """The digest of everything that a step's output depends on.

    Args:
        arguments: the call's arguments, filled in.
        environment: the digest of the environment's lock.
        seed: the run's seed.
        digests: pinned dataset refs with the digests of their content.
    """
    return digest_value(
        {
            "format": _KEY_FORMAT,
            "function": call.function,
            "code": call.code,
            "environment": environment,
            "seed": seed,
            "arguments": {name: _identity(argument) for name, argument in arguments.items()},
            "datasets": {ref: digests.get(ref, "") for ref in sorted(_pinned_in(arguments.values()))},
        }
    )


def _pinned_in(arguments: Any) -> set[str]:
    return {
        ref
        for argument in arguments
        for node in _nodes(argument)
        if isinstance(node, Literal)
        for ref in dataset_refs(node.value)
    }


def _identity(argument: Argument) -> Any:
    match argument:
        case Literal(value):
            return {"literal": value}
        case Ready(stored, path):
            return {"codec": stored.codec, "digest": stored.digest, "path": list(path)}
        case Items(items):
            return {"items": [_identity(item) for item in items]}
        case Entries(entries):
            return {"entries": {key: _identity(item) for key, item in entries.items()}}
        case FromStep(step):
            raise ValueError(f"the output of {step!r} is not filled in")


def _ready(node: FromStep, outputs: Mapping[str, Stored]) -> Ready:
    """Goes as deep as parts are stored by themselves, so that only the part that is used counts."""
    stored, path = outputs[node.step], node.path
    while path and stored.parts:
        stored, path = part_of(stored, path[0]), path[1:]
    return Ready(stored, path)


def _nodes(argument: Argument) -> Iterator[Argument]:
    match argument:
        case Items(items):
            for item in items:
                yield from _nodes(item)
        case Entries(entries):
            for item in entries.values():
                yield from _nodes(item)
        case _:
            yield argument


def _replaced(argument: Argument, change: Callable[[Argument], Argument]) -> Argument:
    match argument:
        case Items(items):
            return Items(tuple(_replaced(item, change) for item in items))
        case Entries(entries):
            return Entries({key: _replaced(item, change) for key, item in entries.items()})
        case _:
            return change(argument)
