"""Ensembles of trees, answered without ONNX Runtime where that is possible: the same bits in a fraction of the time.

A graph that is one tree operator and the few nodes that our converters put around it is read (tree_graph), its nodes
are laid out (tree_layout) for the compiled part (`_trees.c`), which checks them again, and the result is proved on rows
around the thresholds, with missing, infinite and extreme numbers among them: where one bit of one answer differs from
what ONNX Runtime gives with one thread, or where it is not faster, ONNX Runtime goes on. Where other operators follow
the trees, ONNX Runtime goes on from these (tree_rest).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loopwright.core import Invalid, wants_compiled
from loopwright.models.tree_graph import Graph, Node, Unreadable, read_graph
from loopwright.models.tree_layout import LEAF, laid_out, list_of
from loopwright.models.tree_rest import Rest, behind_trees

if TYPE_CHECKING:
    import numpy as np
    import onnxruntime

    Array = np.ndarray[Any, Any]

_trees: Any = None
if wants_compiled():
    with suppress(ImportError):  # it was not built
        from loopwright.models import _trees  # type: ignore[no-redef]  # in place of None

_PROBES = 320
_MANY_ROWS = 8  # with fewer, a second session costs more than the trees do
_VALUE, _POSITIVE, _LOGISTIC, _RAW, _MANY, _MANY_LOGISTIC, _MANY_SOFTMAX = range(7)


@dataclass(frozen=True)
class Ensemble:
    """What a graph computes: its tree operator, how sums become scores, and the outputs in their order.

    `classes` are whole numbers or text; `outputs` name what each output is: `label`, `score` (of one target, or of the
    second class) or `scores`.
    """

    trees: Node
    form: int
    targets: int
    base: tuple[float, ...]
    averages: bool
    classes: tuple[int | str, ...]
    outputs: tuple[tuple[str, str], ...]


class TreeEvaluator:
    """Answers a matrix of rows. Thread-safe.

    Attributes:
        least_rows: a matrix of fewer is left to ONNX Runtime.
    """

    least_rows = 1

    def __init__(self, trees: Any, ensemble: Ensemble, threads: int) -> None:
        import numpy as np

        self.ensemble = ensemble
        self._trees, self._threads, self._outputs = trees, threads, ensemble.outputs
        kinds = [kind for _, kind in ensemble.outputs]
        self._has_labels, self._width = "label" in kinds, ensemble.targets if "scores" in kinds else 0
        words = ensemble.classes and isinstance(ensemble.classes[0], str)
        self._words = np.array(ensemble.classes, dtype=object) if words else None
        self._empty, self._float, self._int = np.empty, np.dtype(np.float32), np.dtype(np.int64)

    def answer(self, matrix: Array) -> dict[str, Array] | None:
        """An array per output; None where the rows have another form, and ONNX Runtime is to say what of it."""
        count = len(matrix)
        scores = self._empty((count, self._width) if self._width else count, self._float)
        labels = self._empty(count, self._int) if self._has_labels else None
        try:
            self._trees.score(matrix, scores, labels, self._threads)
        except (ValueError, TypeError, BufferError):
            return None
        if labels is not None and self._words is not None:
            labels = self._words[labels]
        return {name: labels if labels is not None and kind == "label" else scores for name, kind in self._outputs}


class TreesAndRest(TreeEvaluator):
    """Answers a matrix of rows by trees, and by ONNX Runtime from these on. Thread-safe."""

    least_rows = _MANY_ROWS

    def __init__(
        self, trees: Any, ensemble: Ensemble, threads: int, rest: Rest, session: onnxruntime.InferenceSession
    ) -> None:
        super().__init__(trees, ensemble, threads)
        self._session, self._tensor, self._targets = session, rest.tensor, ensemble.targets
        self._names = [item.name for item in session.get_outputs()]

    def answer(self, matrix: Array) -> dict[str, Array] | None:
        """An array per output; None where rows are few, or have another form, and ONNX Runtime is to answer."""
        sums = super().answer(matrix) if len(matrix) >= self.least_rows else None
        if sums is None:
            return None
        feed = {self._tensor: sums[self._tensor].reshape(len(matrix), self._targets)}
        try:
            return dict(zip(self._names, self._session.run(self._names, feed), strict=True))
        except Exception:  # noqa: BLE001  (ONNX Runtime has a class per status)
            return None


def fast_trees(
    graph: bytes,
    session: onnxruntime.InferenceSession,
    threads: int = 1,
    alone: Callable[[bytes], onnxruntime.InferenceSession] | None = None,
) -> TreeEvaluator | None:
    """What answers in place of a session; None where the graph has another form, or it is no gain.

    Args:
        graph: the ONNX graph.
        session: ONNX Runtime with this graph.
        threads: how many threads the session has, and one large matrix may use.
        alone: opens a session with one thread, which adds in the order of the trees; needed where `session` has more,
            and for graphs that go on behind their trees.
    """
    evaluator = read_trees(graph, session, threads, alone)
    if evaluator is None:
        return None
    standard = session if threads == 1 or alone is None else alone(graph)
    return evaluator if _proved(evaluator, standard) else None


def read_trees(
    graph: bytes,
    session: onnxruntime.InferenceSession,
    threads: int = 1,
    alone: Callable[[bytes], onnxruntime.InferenceSession] | None = None,
) -> TreeEvaluator | None:
    """As `fast_trees`, without the proof."""
    if _trees is None:
        return None
    with suppress(Unreadable, ValueError):
        ensemble = _ensemble(read_graph(graph), session)
        return TreeEvaluator(_made(ensemble, session), ensemble, threads)
    with suppress(Unreadable, ValueError, Invalid):
        if alone is not None:
            _check_input(session)
            rest = behind_trees(graph, session.get_inputs()[0].name)
            ensemble = _sums(rest.trees, rest.tensor)
            return TreesAndRest(_made(ensemble, session), ensemble, threads, rest, alone(rest.graph))
    return None


def _made(ensemble: Ensemble, session: onnxruntime.InferenceSession) -> Any:
    width = session.get_inputs()[0].shape[1]
    arrays = laid_out(ensemble.trees, width, ensemble.targets)
    return _trees.Trees(*_as_bytes(arrays, ensemble), width, *_shape(ensemble), ensemble.form, ensemble.averages)


def _shape(ensemble: Ensemble) -> tuple[int, int]:
    targets = ensemble.targets
    return targets, targets if any(kind == "scores" for _, kind in ensemble.outputs) else 1


def _as_bytes(arrays: tuple[Array, ...], ensemble: Ensemble) -> list[bytes]:
    import numpy as np

    words = ensemble.classes and isinstance(ensemble.classes[0], str)
    classes = range(len(ensemble.classes)) if words else ensemble.classes
    more = (np.array(ensemble.base, dtype=np.float32), np.array(list(classes), dtype=np.int64))
    return [array.tobytes() for array in (*arrays, *more)]


def _ensemble(graph: Graph, session: onnxruntime.InferenceSession) -> Ensemble:
    _check_input(session)
    inputs = session.get_inputs()
    traced = [_traced(graph, item.name) for item in session.get_outputs()]
    trees = traced[0][1]
    tables = {tuple(classes) for kind, _, classes in traced if kind == "label"}
    if any(node is not trees for _, node, _ in traced) or len(tables) > 1 or trees.inputs != [inputs[0].name]:
        raise Unreadable("outputs of several origins")
    kinds = [kind for kind, _, _ in traced]
    if ("score" in kinds) + ("scores" in kinds) + ("value" in kinds) != 1 or trees.domain != "ai.onnx.ml":
        raise Unreadable("the outputs are no answer of trees")
    names = [item.name for item in session.get_outputs()]
    outputs = tuple(zip(names, kinds, strict=True))
    if trees.operator == "TreeEnsembleRegressor" and kinds == ["value"]:
        return _regression(trees, outputs)
    if trees.operator == "TreeEnsembleClassifier" and "value" not in kinds:
        return _classification(trees, outputs, next(iter(tables), ()))
    raise Unreadable(f"an operator {trees.operator}")


def _check_input(session: onnxruntime.InferenceSession) -> None:
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 2:
        raise Unreadable("the input is no matrix of float32")
    if not isinstance(inputs[0].shape[1], int):
        raise Unreadable("the input has no certain width")


def _traced(graph: Graph, name: str) -> tuple[str, Node, list[int | str]]:
    """What an output is, the tree operator it comes from, and the classes of labels."""
    import numpy as np

    node = graph.makers.get(name)
    constant = graph.constants.get(node.inputs[-1]) if node and node.inputs else None
    if node and node.operator == "Reshape" and isinstance(constant, np.ndarray) and constant.tolist() == [-1]:
        return "value", _source(graph, node.inputs[0], 0), []
    if node and node.operator == "Gather" and isinstance(constant, np.ndarray):
        if constant.shape == () and constant == 1 and node.attributes == {"axis": 1}:
            return "score", _source(graph, node.inputs[0], 1), []
    elif node and node.operator == "Gather" and not node.attributes.get("axis"):
        table, best = graph.constants.get(node.inputs[0]), graph.makers.get(node.inputs[1])
        if table is not None and best and best.operator == "ArgMax" and best.attributes == {"axis": 1, "keepdims": 0}:
            classes = table.tolist() if isinstance(table, np.ndarray) else table
            return "label", _source(graph, best.inputs[0], 1), list(classes)
    return "scores", _source(graph, name, 1), []


def _source(graph: Graph, name: str, place: int) -> Node:
    """The tree operator whose output at a place a tensor is, but for operators that change nothing of it."""
    for _ in range(16):
        node = graph.makers.get(name)
        if node is None:
            break
        if node.operator.startswith("TreeEnsemble"):
            if node.outputs.index(name) == place:
                return node
            break
        same = node.operator == "Identity" or (node.operator == "Cast" and node.attributes.get("to") == 1)
        if not same or len(node.inputs) != 1 or node.domain not in ("", "ai.onnx"):
            break
        name = node.inputs[0]
    raise Unreadable(f"{name!r} comes from no tree operator")


def _regression(trees: Node, outputs: tuple[tuple[str, str], ...]) -> Ensemble:
    if trees.attributes.get("n_targets") != 1:
        raise Unreadable("several targets")
    return _sums(trees, outputs[0][0])


def _sums(trees: Node, name: str) -> Ensemble:
    """Trees that give a sum for each target."""
    given = trees.attributes
    targets = int(given["n_targets"])
    base = tuple(list_of(given, "base_values").tolist()) if "base_values" in given else ()
    kind = given.get("aggregate_function", b"SUM")
    if len(base) not in (0, targets) or kind not in (b"SUM", b"AVERAGE"):
        raise Unreadable("base values that do not fit, or another sum")
    if given.get("post_transform", b"NONE") != b"NONE":
        raise Unreadable("a transformed value")
    averages = kind == b"AVERAGE"
    if targets == 1:
        return Ensemble(trees, _VALUE, 1, base, averages, (), ((name, "value"),))
    return Ensemble(trees, _MANY, targets, base, averages, tuple(range(targets)), ((name, "scores"),))


def _classification(trees: Node, outputs: tuple[tuple[str, str], ...], classes: tuple[int | str, ...]) -> Ensemble:
    import numpy as np

    given = trees.attributes
    base = tuple(list_of(given, "base_values").tolist()) if "base_values" in given else ()
    ids, link = set(list_of(given, "class_ids").tolist()), given.get("post_transform", b"NONE")
    named = given.get("classlabels_int64s", given.get("classlabels_strings"))
    count = len(named) if isinstance(named, (list, np.ndarray)) else 0
    if count < 2 or (classes and len(classes) != count) or (count > 2 and any(kind == "score" for _, kind in outputs)):
        raise Unreadable("classes that do not fit")
    classes = classes or tuple(range(count))
    if count == 2 and ids == {0}:
        if len(base) > 1 or any(kind == "scores" for _, kind in outputs):
            raise Unreadable("base values of two classes")
        positive = not (list_of(given, "class_weights") < 0).any()
        plain = _POSITIVE if positive else _RAW
        form = {b"LOGISTIC": _LOGISTIC, b"NONE": plain, b"SOFTMAX": plain}.get(link)
        targets = 1
    else:
        form = {b"NONE": _MANY, b"LOGISTIC": _MANY_LOGISTIC, b"SOFTMAX": _MANY_SOFTMAX}.get(link)
        targets = count
    if form is None or len(base) not in (0, targets) or (count == 2 and targets == 2 and base):
        raise Unreadable("another transformation, or base values that do not fit")
    return Ensemble(trees, form, targets, base, False, classes, outputs)


def _proved(evaluator: TreeEvaluator, session: onnxruntime.InferenceSession) -> bool:
    """Whether the answers have ONNX Runtime's bits, of as few rows as are answered and of many, and come sooner."""
    few = evaluator.least_rows
    taken = session.get_inputs()[0]
    name, rows = taken.name, _probes(evaluator.ensemble.trees, taken.shape[1])
    for part in (rows, rows[: few + 4], *(rows[at : at + few] for at in range(8))):
        if not _same(evaluator.answer(part), session, name, part):
            return False
    return _seconds(lambda: evaluator.answer(rows)) < _seconds(lambda: session.run(None, {name: rows}))


def _same(found: dict[str, Array] | None, session: onnxruntime.InferenceSession, name: str, rows: Array) -> bool:
    expected = session.run(None, {name: rows})
    if found is None:
        return False
    return all(
        mine.dtype == theirs.dtype
        and mine.shape == theirs.shape
        and (mine.tolist() == theirs.tolist() if mine.dtype == object else mine.tobytes() == theirs.tobytes())
        for mine, theirs in zip(found.values(), expected, strict=True)
    )


def _seconds(work: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def _probes(node: Node, width: int) -> Array:
    """Rows around the thresholds: on them, a step beside them, and numbers that are missing, infinite or extreme."""
    import random

    import numpy as np

    generator = random.Random(0)  # numpy.random would cost serving 30 ms and 5 MB to import

    def drawn(count: int, below: int) -> Array:
        return np.frombuffer(generator.randbytes(8 * count), dtype=np.uint64) % np.uint64(below)

    features, values = node.attributes["nodes_featureids"], node.attributes["nodes_values"]
    inner = np.flatnonzero(node.attributes["nodes_modes"] != LEAF)
    rows = ((drawn(_PROBES * width, 60_001).astype(np.float32) - 30_000) / 10_000).reshape(_PROBES, width)
    for column, at in _by_column(features[inner], inner):
        chosen, step = values[at[drawn(_PROBES, len(at))]], drawn(_PROBES, 4)
        with np.errstate(all="ignore"):  # beside the largest number is infinity
            below, above = (np.nextafter(chosen, np.float32(end)) for end in (-np.inf, np.inf))
            far = chosen + np.float32(0.5)
        rows[:, column] = np.select([step == 0, step == 1, step == 2], [below, above, far], chosen)
    extremes = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 3.4e38, -3.4e38, 1e-45], dtype=np.float32)
    odd = (drawn(rows.size, 10) == 0).reshape(rows.shape)
    rows[odd] = extremes[drawn(int(odd.sum()), len(extremes))]
    return rows


def _by_column(columns: Array, at: Array) -> list[tuple[int, Array]]:
    import numpy as np

    order = np.argsort(columns, kind="stable")
    names, starts = np.unique(columns[order], return_index=True)
    return list(zip(names.tolist(), np.split(at[order], starts[1:]), strict=True)) if len(names) else []
