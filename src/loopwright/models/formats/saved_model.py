"""TensorFlow's SavedModel, through tf2onnx: loading one runs its operators, so a confined process alone does it
(converting.py).

A SavedModel does not say what it answers, so the task is asked for; whether it gives logits or probabilities is read
off the graph, as for torch modules. Its serving signature is what is converted, and what is compared with.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.core import Invalid, missing_extra
from loopwright.models.formats.contract import FORMATS, Converted
from loopwright.models.formats.graphs import check_graph, name_outputs, rename, tensors_of
from loopwright.models.formats.onnx_file import layout_of
from loopwright.models.formats.torch_graph import MATRIX_INPUT, add_scores, classes_of, first_line, head_of, scores_of
from loopwright.models.formats.trees import matrix_of
from loopwright.models.frames import columns_of
from loopwright.models.model import Input, Layout, Signature, Task

if TYPE_CHECKING:
    import numpy as np
    import onnx
    import polars as pl

    Array = np.ndarray[Any, Any]

_DEFAULT = "serving_default"
_OPSET = 18
_TAG = "serve"


@dataclass(frozen=True)
class SavedModelFolder:
    """A SavedModel that this process may run: it is confined."""

    path: Path


class SavedModel:
    """A SavedModel that takes one matrix of numbers, or a tensor per column, of the column's name."""

    def accepts(self, model: Any) -> bool:
        return isinstance(model, SavedModelFolder)

    def convert(self, model: Any, sample: pl.DataFrame, inputs: tuple[Input, ...], task: Task | None) -> Converted:
        if task is None:
            raise Invalid(
                "a SavedModel does not say what it answers",
                next_step="say the task: binary, multiclass or regression, or other for its outputs as they are",
            )
        served = _Served(model.path)
        graph = served.graph()
        check_graph(graph)
        layout = layout_of(graph, inputs)
        names = [item.name for item in graph.graph.output]
        answers = served.answers(sample, inputs, layout, names)
        if layout is Layout.MATRIX:
            rename(graph.graph, graph.graph.input[0].name, MATRIX_INPUT)
        head = head_of(graph, task, answers)
        classes = classes_of(head, task)
        if task in (Task.BINARY, Task.MULTICLASS):
            rename(graph.graph, names[0], "output")
        add_scores(graph, head, task)
        name_outputs(graph, task, classes)
        tensors = tensors_of(graph, tuple(item.name for item in inputs)) if layout is Layout.COLUMNS else {}

        def original(rows: pl.DataFrame) -> Mapping[str, Array]:
            given = served.answers(rows, inputs, layout, names)
            return dict(zip(names, given, strict=True)) if task is Task.OTHER else scores_of(head, task, given)

        return Converted(graph, layout, task, classes, original, tensors)


class _Served:
    """The serving signature of a SavedModel, as TensorFlow runs it."""

    def __init__(self, path: Path) -> None:
        tensorflow = _tensorflow()
        self._path = path
        try:
            self._loaded = tensorflow.saved_model.load(str(path), tags=[_TAG])
        except Exception as error:  # whatever TensorFlow raises; the cause is named
            raise Invalid(f"TensorFlow cannot load the SavedModel: {first_line(error)}") from error
        self._name = _signature_of(list(self._loaded.signatures))
        self._call = self._loaded.signatures[self._name]
        self._takes = self._call.structured_input_signature[1]

    def graph(self) -> onnx.ModelProto:
        """The signature as a graph, made by tf2onnx's own command.

        Raises:
            Invalid: it has no ONNX form.
        """
        import onnx
        from tf2onnx import convert

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            said = ["--saved-model", str(self._path), "--signature_def", self._name, "--tag", _TAG]
            said += ["--output", str(path), "--opset", str(_OPSET)]
            before, sys.argv = sys.argv, ["tf2onnx", *said]
            try:
                convert.main()
                graph: onnx.ModelProto = onnx.load(str(path))
            except Exception as error:  # it raises whatever its parts raise; the cause is named
                raise Invalid(
                    f"the SavedModel has no ONNX form: {first_line(error)}",
                    next_step="take out what only TensorFlow can run, or export the model to ONNX yourself",
                ) from error
            finally:
                sys.argv = before
        graph.doc_string = graph.graph.doc_string = ""
        return graph

    def answers(self, rows: pl.DataFrame, inputs: tuple[Input, ...], layout: Layout, names: list[str]) -> list[Array]:
        """What TensorFlow itself says, an array for each of the named outputs.

        Raises:
            Invalid: it fails on the rows.
        """
        tensorflow = _tensorflow()
        if layout is Layout.MATRIX:
            given: Mapping[str, Any] = {next(iter(self._takes)): matrix_of(rows, inputs)}
        else:
            given = columns_of(rows, Signature(inputs, ()))
        try:
            fed = {name: tensorflow.constant(_fitted(given[name], spec)) for name, spec in self._takes.items()}
            found = self._call(**fed)
            return [found[name].numpy() for name in names]
        except Exception as error:  # whatever TensorFlow raises; the cause is named
            raise Invalid(f"the SavedModel cannot answer the sample: {first_line(error)}") from error


def _fitted(values: Array, spec: Any) -> Any:
    """Values as a tensor of a signature takes them: its type, and a second axis where it has one."""
    import numpy as np

    if values.dtype == object:
        values = np.array(["" if value is None else str(value) for value in values.tolist()], dtype=object)
    else:
        values = values.astype(spec.dtype.as_numpy_dtype)
    return values.reshape(-1, 1) if values.ndim == 1 and spec.shape.rank == 2 else values


def _signature_of(names: list[str]) -> str:
    if _DEFAULT in names or len(names) == 1:
        return _DEFAULT if _DEFAULT in names else names[0]
    told = f"it has {', '.join(sorted(names))}" if names else "it has none"
    raise Invalid(
        f"the SavedModel has no signature {_DEFAULT!r}; {told}",
        next_step="save it with signatures={'serving_default': ...}, or from Keras by model.export(folder)",
    )


def _tensorflow() -> Any:
    try:
        import tensorflow
        import tf2onnx  # noqa: F401 - both are needed, and one is missed as soon as the other
    except ImportError as error:
        raise missing_extra(str(error.name), "tensorflow", "reading a SavedModel") from error
    return tensorflow


FORMATS.register("tensorflow")(SavedModel())
