"""What a format does, and the table of formats."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from loopwright.core import Invalid, Registry
from loopwright.models.model import Input, Layout, Task

if TYPE_CHECKING:
    import numpy as np
    import onnx
    import polars as pl

    Predict = Callable[[pl.DataFrame], Mapping[str, np.ndarray[Any, Any]]]


@dataclass(frozen=True)
class Converted:
    """A graph with our names of inputs and outputs, and the original to prove it against.

    `original` takes rows in the sample's columns and gives the outputs of the task's convention (see Task); it is None
    where there is no other form of the model than the graph. `tensors` names the graph's input for each input that the
    model uses; it is empty for a matrix.
    """

    graph: onnx.ModelProto
    layout: Layout
    task: Task
    classes: tuple[str | int, ...]
    original: Predict | None
    tensors: dict[str, str] = field(default_factory=dict)


class Format(Protocol):
    """Turns models of one family into ONNX. Pure: reads the model and never changes it."""

    def accepts(self, model: Any) -> bool:
        """Whether this format is the one for `model`. Imports nothing heavy that the model did not already import."""
        ...

    def convert(self, model: Any, sample: pl.DataFrame, inputs: tuple[Input, ...], task: Task | None) -> Converted:
        """The graph for a model.

        Raises:
            Invalid: the model, or a part of it, has no ONNX form.
        """
        ...


FORMATS: Registry[Format] = Registry("model_formats", "model format")


def convert(
    model: Any, sample: pl.DataFrame, inputs: tuple[Input, ...], task: Task | None = None
) -> tuple[str, Converted]:
    """The name of the format that takes `model`, and what it made.

    Raises:
        Invalid: no format takes it, or it has no ONNX form.
    """
    for name in FORMATS.names():
        if FORMATS.get(name).accepts(model):
            return name, FORMATS.get(name).convert(model, sample, inputs, task)
    kind = type(model)
    raise Invalid(
        f"a {kind.__module__}.{kind.__qualname__} cannot become a bundle",
        next_step=f"give a model of a known library ({', '.join(FORMATS.names())}), a model's file, or a subclass of "
        "CustomPredictor (docs/how-to/bundles.md)",
    )
