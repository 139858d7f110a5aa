"""Ensembles of trees, answered without ONNX Runtime where that is possible: the same bits in a fraction of the time.

A graph that is one tree operator and the few nodes that our converters put around it is read (tree_graph), its nodes
are laid out (tree_layout) for the compiled part (`_trees.c`), which checks them again, and the result is proved on rows
around the thresholds, with missing, infinite and extreme numbers among them: where one bit of one answer differs from
what ONNX Runtime gives with one thread, or where it is not faster, ONNX Runtime goes on. Where other operators stand
before or behind the trees, ONNX Runtime does what they say (tree_parts).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from loopwright.core import Invalid, wants_compiled
from loopwright.models.tree_ensemble import Ensemble, check_input, read_ensemble, sums_of
from loopwright.models.tree_graph import Node, Unreadable, read_graph
from loopwright.models.tree_layout import LEAF, laid_out
from loopwright.models.tree_parts import Rest, before_trees, behind_trees, from_trees

if TYPE_CHECKING:
    import numpy as np
    import onnxruntime

    Array = np.ndarray[Any, Any]

Opened = Callable[[bytes, int], "onnxruntime.InferenceSession"]
Feed = dict[str, "Array"]

_trees: Any = None
if wants_compiled():
    with suppress(ImportError):  # it was not built
        from loopwright.models import _trees  # type: ignore[no-redef]  # in place of None

_PROBES = 320
_MANY_ROWS = 8  # with fewer, a second session costs more than the trees do


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
    opened: Opened | None = None,
) -> TreeEvaluator | None:
    """What answers in place of a session; None where the graph has another form, or it is no gain.

    Args:
        graph: the ONNX graph.
        session: ONNX Runtime with this graph.
        threads: how many threads the session has, and one large matrix may use.
        opened: opens a graph with so many threads: with one, ONNX Runtime adds in the order of the trees. Needed where
            `session` has more, and for graphs that go on behind their trees.
    """
    evaluator = read_trees(graph, session, threads, opened)
    if evaluator is None:
        return None
    standard = session if threads == 1 or opened is None else opened(graph, 1)
    return evaluator if _proved(evaluator, standard) else None


def read_trees(
    graph: bytes,
    session: onnxruntime.InferenceSession,
    threads: int = 1,
    opened: Opened | None = None,
) -> TreeEvaluator | None:
    """As `fast_trees`, without the proof."""
    if _trees is None:
        return None
    with suppress(Unreadable, ValueError):
        ensemble = read_ensemble(read_graph(graph), session)
        return TreeEvaluator(_made(ensemble, session), ensemble, threads)
    with suppress(Unreadable, ValueError, Invalid):
        if opened is not None:
            check_input(session)
            rest = behind_trees(graph, session.get_inputs()[0].name)
            ensemble = sums_of(rest.trees, rest.tensor)
            return TreesAndRest(_made(ensemble, session), ensemble, threads, rest, opened(rest.graph, 1))
    return None


class TreesInSteps:
    """Answers what a whole graph is fed: ONNX Runtime takes the steps before the trees. Thread-safe."""

    def __init__(self, steps: onnxruntime.InferenceSession, evaluator: TreeEvaluator) -> None:
        self._steps, self._evaluator = steps, evaluator
        self._names = [steps.get_outputs()[0].name]

    def answer(self, feed: Feed) -> Feed | None:
        """An array per output; None where rows are few, or cannot be answered, and ONNX Runtime is to say why."""
        if len(next(iter(feed.values()))) < _MANY_ROWS:
            return None
        try:
            [matrix] = self._steps.run(self._names, feed)
        except Exception:  # noqa: BLE001  (ONNX Runtime has a class per status)
            return None
        return self._evaluator.answer(matrix)


def fast_steps(
    graph: bytes, session: onnxruntime.InferenceSession, threads: int, opened: Opened
) -> TreesInSteps | None:
    """What answers many rows in place of a session whose graph has steps before its trees; as `fast_trees`."""
    if _trees is None:
        return None
    with suppress(Unreadable, ValueError, Invalid):
        before = before_trees(graph)
        steps = opened(before.graph, threads)
        feed = _blank(session, _MANY_ROWS)
        [matrix] = steps.run([before.tensor], feed)
        if matrix.ndim != 2 or str(matrix.dtype) != "float32":
            return None
        rest = from_trees(graph, matrix.shape[1])
        evaluator = fast_trees(rest, opened(rest, threads), threads, opened)
        found = None if evaluator is None else TreesInSteps(steps, evaluator)
        if found is not None and _same(found.answer(feed), session, feed):
            return found
    return None


def _blank(session: onnxruntime.InferenceSession, rows: int) -> Feed:
    """Rows of zeros and empty texts.

    Raises:
        Unreadable: an input takes something else.
    """
    import numpy as np

    feed = {}
    for item in session.get_inputs():
        shape = [rows, *(size if isinstance(size, int) else 1 for size in item.shape[1:])]
        if item.type not in _BLANKS or not item.shape:
            raise Unreadable(f"an input of {item.type}")
        dtype, value = _BLANKS[item.type]
        feed[item.name] = np.full(shape, value, dtype=dtype)
    return feed


_BLANKS: dict[str, tuple[Any, Any]] = {
    "tensor(float)": ("float32", 0),
    "tensor(double)": ("float64", 0),
    "tensor(int64)": ("int64", 0),
    "tensor(bool)": ("bool", False),
    "tensor(string)": (object, ""),
}


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


def _proved(evaluator: TreeEvaluator, session: onnxruntime.InferenceSession) -> bool:
    """Whether the answers have ONNX Runtime's bits, of as few rows as are answered and of many, and come sooner."""
    few = evaluator.least_rows
    taken = session.get_inputs()[0]
    name, rows = taken.name, _probes(evaluator.ensemble.trees, taken.shape[1])
    for part in (rows, rows[: few + 4], *(rows[at : at + few] for at in range(8))):
        if not _same(evaluator.answer(part), session, {name: part}):
            return False
    return _seconds(lambda: evaluator.answer(rows)) < _seconds(lambda: session.run(None, {name: rows}))


def _same(found: Feed | None, session: onnxruntime.InferenceSession, feed: Feed) -> bool:
    expected = session.run(None, feed)
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
