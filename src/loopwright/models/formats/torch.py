"""torch modules, through torch's own exporter.

A module does not say what it answers, so the task is asked for. Nor does it say whether its numbers are logits or
probabilities: a graph that ends in a sigmoid or softmax gives probabilities, any other gives logits, as torch's losses
take them; where the sample's answers look otherwise, the module is refused.
"""

from __future__ import annotations

import copy
import inspect
import sys
from typing import TYPE_CHECKING, Any

from loopwright.core import DType, Invalid, missing_extra
from loopwright.models.formats.contract import FORMATS, Converted
from loopwright.models.formats.graphs import check_graph, name_outputs, tensors_of
from loopwright.models.formats.torch_graph import (
    MATRIX_INPUT,
    add_scores,
    classes_of,
    exported,
    first_line,
    head_of,
    scores_of,
)
from loopwright.models.model import Input, Layout, Task

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    Array = np.ndarray[Any, Any]

_LONE_ROWS = 3
_CLOSE = 1e-3
_MAX_BYTES = 2_000_000_000  # a protobuf message ends at 2 GiB


class Torch:
    """A `torch.nn.Module` whose `forward` takes one matrix of numbers, or one tensor [N, 1] per column by its name."""

    def accepts(self, model: Any) -> bool:
        nn = getattr(sys.modules.get("torch"), "nn", None)
        return nn is not None and isinstance(model, nn.Module)

    def convert(self, model: Any, sample: pl.DataFrame, inputs: tuple[Input, ...], task: Task | None) -> Converted:
        try:
            import onnxscript  # noqa: F401 - torch's exporter needs it
        except ImportError:
            raise missing_extra("onnxscript", "torch", "exporting a torch module") from None
        if task is None:
            raise Invalid(
                "a torch module does not say what it answers",
                next_step="give task='binary', 'multiclass' or 'regression', or 'other' for its outputs as they are",
            )
        module = _Original(model, layout_of(model, inputs), inputs)
        answers = module.answers(sample)
        module.check_rows_stand_alone(sample, answers)
        graph = exported(module.in_float32(), module.tensors(sample, 2), module.names)
        check_graph(graph)
        head = head_of(graph, task, answers)
        classes = classes_of(head, task)
        add_scores(graph, head, task)
        name_outputs(graph, task, classes)
        tensors = tensors_of(graph, tuple(item.name for item in inputs)) if module.layout is Layout.COLUMNS else {}
        return Converted(
            graph, module.layout, task, classes, lambda rows: scores_of(head, task, module.answers(rows)), tensors
        )


class _Original:
    """A copy of the module as it predicts (eval, on the CPU), in its own precision."""

    def __init__(self, model: Any, layout: Layout, inputs: tuple[Input, ...]) -> None:
        self.layout, self._inputs = layout, inputs
        size_bytes = sum(item.numel() * 4 for item in model.parameters())
        if size_bytes > _MAX_BYTES:
            raise Invalid(f"the module has {size_bytes} bytes of weights; an ONNX graph holds at most {_MAX_BYTES}")
        try:
            self._module = copy.deepcopy(model).cpu().eval()
        except (RuntimeError, TypeError) as error:
            raise Invalid(f"the {type(model).__name__} cannot be copied: {first_line(error)}") from error

    @property
    def names(self) -> list[str]:
        """The names of the graph's inputs."""
        return [MATRIX_INPUT] if self.layout is Layout.MATRIX else [item.name for item in self._inputs]

    def in_float32(self) -> Any:
        """The module as the graph computes it."""
        return copy.deepcopy(self._module).float()

    def tensors(self, rows: pl.DataFrame, count: int) -> list[Any]:
        """The arguments for the first `count` rows, again from the first where there are fewer; float32."""
        import polars as pl
        import torch

        some = pl.concat([rows.head(count)] * count).head(count)
        return [item.to(torch.float32) if item.is_floating_point() else item for item in self._arguments(some)]

    def answers(self, rows: pl.DataFrame) -> list[Array]:
        """What the module gives for rows, each with a row per row.

        Raises:
            Invalid: it fails, or gives something else than tensors.
        """
        import torch

        try:
            with torch.inference_mode():
                given = self._module(*self._arguments(rows))
        except Exception as error:  # whatever the user's code raises; the cause is named
            raise Invalid(f"the module cannot answer the sample: {first_line(error)}") from error
        parts = list(given) if isinstance(given, tuple | list) else [given]
        for part in parts:
            if not isinstance(part, torch.Tensor) or part.dim() == 0 or len(part) != rows.height:
                shown = tuple(part.shape) if isinstance(part, torch.Tensor) else type(part).__name__
                raise Invalid(
                    f"the module gives {shown} for {rows.height} rows",
                    next_step="let forward() return a tensor with one row per row, or a tuple of them",
                )
        return [(part.double() if part.is_floating_point() else part).numpy() for part in parts]

    def check_rows_stand_alone(self, rows: pl.DataFrame, answers: list[Array]) -> None:
        """A server answers rows in whatever batch they arrive.

        Raises:
            Invalid: an answer depends on the other rows, or on chance.
        """
        import numpy as np

        for place in range(min(_LONE_ROWS, rows.height)):
            alone = self.answers(rows.slice(place, 1))
            for one, all_of_them in zip(alone, answers, strict=True):
                if not np.allclose(one[0], all_of_them[place], rtol=_CLOSE, atol=_CLOSE, equal_nan=True):
                    raise Invalid(
                        f"row {place} gets {one[0]} alone and {all_of_them[place]} among others: the answer depends on "
                        "the other rows of its batch, or on chance",
                        next_step="take what mixes rows, and dropout that ignores eval(), out of forward()",
                    )

    def _arguments(self, rows: pl.DataFrame) -> list[Any]:
        import polars as pl
        import torch

        weights = [*self._module.parameters(), *self._module.buffers()]
        kind = next((item.dtype for item in weights if item.is_floating_point()), torch.float32)
        if self.layout is Layout.MATRIX:
            whole = rows.select(item.name for item in self._inputs).select(pl.all().cast(pl.Float64))
            return [torch.tensor(whole.to_numpy(), dtype=kind)]
        return [_tensor(rows[item.name], item, kind) for item in self._inputs]


def _tensor(column: pl.Series, item: Input, kind: Any) -> Any:
    """A column as a tensor [N, 1], or [N, *shape]; whole numbers that are never missing as int64."""
    import numpy as np
    import polars as pl
    import torch

    whole = item.dtype is DType.INT64 and not item.nullable
    if item.shape:
        values = np.array(column.to_list())
    else:
        values = column.cast(pl.Int64 if whole else pl.Float64).to_numpy().reshape(-1, 1)
    return torch.tensor(values, dtype=torch.int64 if whole else kind)


def layout_of(model: Any, inputs: tuple[Input, ...]) -> Layout:
    """One tensor per column where `forward` names them all, in order, or the only one has a shape; else one matrix.

    Raises:
        Invalid: an input is text, or `forward` takes several arguments that are not the columns.
    """
    words = [item.name for item in inputs if item.dtype is DType.STRING]
    if words:
        raise Invalid(
            f"a torch module takes numbers, and {', '.join(map(repr, words))} holds text",
            next_step="number the categories before the model sees them",
        )
    places = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [item for item in inspect.signature(model.forward).parameters.values() if item.kind in places]
    if len(parameters) > 1 and [item.name for item in parameters] == [item.name for item in inputs]:
        return Layout.COLUMNS
    if len(inputs) == 1 and inputs[0].shape:
        return Layout.COLUMNS
    needed = [item.name for item in parameters if item.default is inspect.Parameter.empty]
    if len(needed) > 1 or any(item.shape for item in inputs):
        raise Invalid(
            f"forward() takes {', '.join(needed)}, and the sample has the columns {', '.join(i.name for i in inputs)}",
            next_step="let forward() take one matrix, or one argument per column, of the same names in the same order",
        )
    return Layout.MATRIX


FORMATS.register("torch")(Torch())
