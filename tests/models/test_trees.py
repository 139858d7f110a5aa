"""Compiled trees answer with ONNX Runtime's bits, and nothing that is damaged gets them to walk astray."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import onnx
import onnxruntime as ort
import polars as pl
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from loopwright.core import WITHOUT
from loopwright.models import ModelFailed, Task, build_bundle
from loopwright.models import trees as compiled
from loopwright.models.formats.graphs import name_outputs
from loopwright.models.tree_graph import Unreadable
from loopwright.models.tree_layout import laid_out
from loopwright.models.tree_parts import behind_trees
from loopwright.models.trees import TreeEvaluator, TreesAndRest, TreesInSteps, fast_trees, read_trees

if compiled._trees is None:
    pytest.skip("the compiled part was not built: there is no C compiler here", allow_module_level=True)

WIDTH = 5
MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
EXTREMES = (np.nan, np.inf, -np.inf, 0.0, -0.0, 3.4e38, -3.4e38, 1e-45, 1.0, 2.0)
Array = np.ndarray[Any, Any]


@dataclass
class Grown:
    """The attributes of a tree operator, grown at random."""

    generator: np.random.Generator
    modes: tuple[str, ...]
    ids: tuple[int, ...]
    depth: int
    nodes: dict[str, list[Any]] = field(default_factory=dict)
    leaves: dict[str, list[Any]] = field(default_factory=dict)

    def add_tree(self, tree: int, missing: bool, positive: bool) -> None:
        waiting, last = [(0, 0)], 0
        while waiting:
            node, depth = waiting.pop(int(self.generator.integers(len(waiting))))
            inner = depth < self.depth and self.generator.random() < (0.95 if depth < 3 else 0.45)
            mode = str(self.generator.choice(self.modes)) if inner else "LEAF"
            value = self.generator.choice([*EXTREMES, *np.round(self.generator.normal(size=10), 1)])
            tracks = int(missing and mode not in ("BRANCH_EQ", "LEAF") and self.generator.random() < 0.5)
            children = (last + 1, last + 2) if inner else (0, 0)
            if inner:
                waiting += [(child, depth + 1) for child in children]
                last += 2
            else:
                self._add_leaf(tree, node, positive)
            names = ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids")
            column = int(self.generator.integers(WIDTH)) if inner else 0
            given = (tree, node, column, mode, float(value) if inner else 0.0, *children)
            for name, item in zip((*names, "missing_value_tracks_true"), (*given, tracks), strict=True):
                self.nodes.setdefault(f"nodes_{name}", []).append(item)

    def _add_leaf(self, tree: int, node: int, positive: bool) -> None:
        for place in self.ids if len(self.ids) < 3 or tree % 2 else self.generator.permutation(self.ids)[:2].tolist():
            weight = float(self.generator.normal() ** (2 if positive else 1))
            for name, item in {"treeids": tree, "nodeids": node, "ids": place, "weights": weight}.items():
                self.leaves.setdefault(name, []).append(item)


def grown_graph(
    seed: int, kind: str, link: str, modes: tuple[str, ...] = MODES, *, trees: int, depth: int, words: bool = False
) -> onnx.ModelProto:
    """A graph as our converters make them: `value`, `average`, `binary`, `positive` or `many` (classes)."""
    generator = np.random.default_rng(seed)
    ids = tuple(range(3)) if kind == "many" else (0,)
    grown = Grown(generator, modes, ids, depth)
    for tree in range(trees):
        grown.add_tree(tree, missing=bool(seed % 2), positive=kind == "positive")
    base = [round(float(item), 2) for item in generator.normal(size=len(ids))] if seed % 3 else []
    more: dict[str, Any] = {"base_values": base} if base else {}
    order = np.lexsort((grown.nodes["nodes_nodeids"], grown.nodes["nodes_treeids"]))
    more |= {name: [values[at] for at in order] for name, values in grown.nodes.items()}
    taken = helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, WIDTH])
    if kind in ("value", "average"):
        more |= {f"target_{name}": item for name, item in grown.leaves.items()}
        more |= {"n_targets": 1, "aggregate_function": "SUM" if kind == "value" else "AVERAGE"}
        names, outputs = ["variable"], [helper.make_tensor_value_info("variable", TensorProto.FLOAT, [None, 1])]
        operator, task, classes = "TreeEnsembleRegressor", Task.REGRESSION, ()
    else:
        more |= {f"class_{name}": item for name, item in grown.leaves.items()} | {"post_transform": link}
        classes = tuple("abc"[: max(2, len(ids))]) if words else tuple(range(7, 7 + max(2, len(ids))))
        more["classlabels_strings" if words else "classlabels_int64s"] = classes
        names, operator = ["label", "probabilities"], "TreeEnsembleClassifier"
        outputs = [
            helper.make_tensor_value_info("label", TensorProto.STRING if words else TensorProto.INT64, [None]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, len(classes)]),
        ]
        task = Task.MULTICLASS if kind == "many" else Task.BINARY
    node = helper.make_node(operator, ["features"], names, domain="ai.onnx.ml", **more)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    graph = helper.make_graph([node], "model", [taken], outputs)
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    name_outputs(model, task, classes)
    return model


def opened(graph: bytes, threads: int = 1) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def odd_rows(seed: int, count: int) -> Array:
    """Rows among which thresholds of `Grown`, and all that is odd in floats, are frequent."""
    generator = np.random.default_rng(seed)
    rows = np.round(generator.normal(size=(count, WIDTH)), 1).astype(np.float32)
    odd = generator.random(rows.shape) < 0.3
    rows[odd] = generator.choice(np.array(EXTREMES, dtype=np.float32), int(odd.sum()))
    return np.where(generator.random(rows.shape) < 0.1, np.nextafter(rows, np.float32(9)), rows)


def assert_same_bits(evaluator: TreeEvaluator, session: ort.InferenceSession, rows: Array) -> None:
    expected, found = session.run(None, {session.get_inputs()[0].name: rows}), evaluator.answer(rows)
    assert found is not None
    for (name, mine), theirs in zip(found.items(), expected, strict=True):
        assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape), name
        if mine.dtype == object:
            assert mine.tolist() == theirs.tolist()
        else:
            np.testing.assert_array_equal(mine.view(f"u{mine.itemsize}"), theirs.view(f"u{theirs.itemsize}"), name)


@settings(max_examples=40, deadline=None, phases=[Phase.explicit, Phase.generate])  # the seed shrinks to nothing
@given(
    seed=st.integers(0, 1 << 20),
    kind=st.sampled_from(["value", "average", "binary", "positive", "many"]),
    link=st.sampled_from(["NONE", "LOGISTIC", "SOFTMAX"]),
    modes=st.sets(st.sampled_from(MODES), min_size=1).map(lambda found: tuple(sorted(found))),
    trees=st.sampled_from([1, 2, 9, 30]),
    depth=st.sampled_from([0, 1, 4, 40]),
    words=st.booleans(),
)
@example(seed=1, kind="binary", link="LOGISTIC", modes=("BRANCH_LEQ",), trees=100, depth=6, words=False)
@example(seed=2, kind="value", link="NONE", modes=MODES, trees=1, depth=0, words=False)
def test_answers_have_the_bits_of_onnx_runtime(
    seed: int, kind: str, link: str, modes: tuple[str, ...], trees: int, depth: int, words: bool
) -> None:
    graph = grown_graph(seed, kind, link, modes, trees=trees, depth=depth, words=words).SerializeToString()
    session = opened(graph)
    evaluator = read_trees(graph, session, threads=2)
    assert evaluator is not None
    for count in (1, 3, 8, 50, 301):
        assert_same_bits(evaluator, session, odd_rows(seed + count, count))


def compare_many() -> None:
    """Trees below, at and above what has cuts, one target and several, all kinds of questions."""
    for seed, (kind, depth) in enumerate([("value", 3), ("binary", 5), ("many", 5), ("average", 6), ("many", 9)] * 4):
        graph = grown_graph(seed, kind, "NONE", trees=11, depth=depth).SerializeToString()
        session = opened(graph)
        evaluator = read_trees(graph, session)
        assert evaluator is not None
        for count in (4, 16, 31, 32, 33, 300):
            assert_same_bits(evaluator, session, odd_rows(seed + count, count))


@pytest.mark.parametrize("vectors", ["plain", "avx2"])
def test_machines_with_shorter_vectors_answer_alike(vectors: str) -> None:
    command = [sys.executable, "-c", "from tests.models.test_trees import compare_many; compare_many()"]
    surroundings = {**os.environ, "LOOPWRIGHT_VECTORS": vectors}
    folder = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=surroundings)
    assert done.returncode == 0, done.stderr


def test_many_rows_are_shared_out_among_threads_and_answered_alike() -> None:
    graph = grown_graph(5, "many", "SOFTMAX", trees=12, depth=6).SerializeToString()
    session = opened(graph)
    evaluator = read_trees(graph, session, threads=3)
    assert evaluator is not None
    assert_same_bits(evaluator, session, odd_rows(1, 5003))


def linked_graph(seed: int, kind: str, operator: str) -> onnx.ModelProto:
    """A graph as our converter makes it of XGBoost: sums of trees, and a link behind them."""
    model = grown_graph(seed, "value", "NONE", trees=20, depth=5)
    trees = next(node for node in model.graph.node if node.op_type == "TreeEnsembleRegressor")
    if kind == "many":
        for attribute in trees.attribute:
            if attribute.name == "n_targets":
                attribute.i = 3
            elif attribute.name == "target_ids":
                attribute.ints[:] = [at % 3 for at in range(len(attribute.ints))]
            elif attribute.name == "base_values":
                attribute.floats[:] = [0.5, -0.25, 0.125]
    del model.graph.node[:], model.graph.output[:]
    link = helper.make_node(operator, [trees.output[0]], ["linked"], **({"axis": 1} if operator == "Softmax" else {}))
    best = helper.make_node("ArgMax", ["linked"], ["best"], axis=1, keepdims=0)
    model.graph.node.extend([trees, link, best])
    model.graph.output.append(helper.make_tensor_value_info("best", TensorProto.INT64, [None]))
    model.graph.output.append(helper.make_tensor_value_info("linked", TensorProto.FLOAT, [None, None]))
    return model


@pytest.mark.parametrize(("kind", "operator"), [("one", "Sigmoid"), ("one", "Exp"), ("many", "Softmax")])
@pytest.mark.parametrize("seed", range(4))
def test_what_follows_the_trees_is_left_to_onnx_runtime(kind: str, operator: str, seed: int) -> None:
    graph = linked_graph(seed, kind, operator).SerializeToString()
    session = opened(graph)
    evaluator = read_trees(graph, session, 1, opened)
    assert isinstance(evaluator, TreesAndRest)
    assert read_trees(graph, session) is None
    for count in (8, 33, 301):
        assert_same_bits(evaluator, session, odd_rows(seed + count, count))
    assert evaluator.answer(odd_rows(seed, 7)) is None
    assert evaluator.answer(odd_rows(seed, 9)[:, :4]) is None
    assert compiled._proved(evaluator, session)
    assert not compiled._proved(evaluator, opened(linked_graph(seed + 4, kind, operator).SerializeToString()))


def test_graphs_in_which_the_trees_are_not_all_that_reads_the_input_are_left_alone() -> None:
    model = linked_graph(1, "one", "Sigmoid")
    second = onnx.ModelProto.FromString(model.SerializeToString())
    second.graph.node.append(helper.make_node("ReduceMax", ["features"], ["most"], axes=[1], keepdims=0))
    second.graph.output.append(helper.make_tensor_value_info("most", TensorProto.FLOAT, [None]))
    two = onnx.ModelProto.FromString(model.SerializeToString())
    two.graph.node.append(two.graph.node[0])
    two.graph.node[-1].output[0] = "again"
    for other in (second, two):
        graph = other.SerializeToString()
        assert read_trees(graph, opened(graph), 1, opened) is None


def tamper() -> None:
    """Damage graphs, and laid out trees, in many ways. Ends the process with a signal where one walks astray."""
    graph = grown_graph(7, "many", "SOFTMAX", trees=4, depth=4).SerializeToString()
    session, generator = opened(graph), np.random.default_rng(3)
    rows, width = odd_rows(1, 11), WIDTH
    for _ in range(400):
        damaged = bytearray(graph)
        for at in generator.integers(0, len(graph), int(generator.integers(1, 4))).tolist():
            damaged[at] = int(generator.integers(256))
        found = read_trees(bytes(damaged[: int(generator.integers(1, len(graph) * 3))]), session)
        assert found is None or set(found.answer(rows) or ()) <= {"label", "probabilities"}
        with suppress(Unreadable):
            behind_trees(bytes(damaged), "features")
    sound = read_trees(graph, session)
    assert sound is not None
    arrays = laid_out(sound.ensemble.trees, width, 3)
    whole = compiled._as_bytes(arrays, sound.ensemble)
    refused = 0
    for _ in range(3000):
        parts = list(whole)
        place = int(generator.choice([0, 0, 0, 1, 2, 3, 4, 6, 7]))
        cut = bytearray(parts[place])
        word = int(generator.integers(0, max(1, len(cut) // 4)))
        value = int(generator.choice([0, 1, 5, 40, 0xFFFFFFFF, 0x7FFFFFFF, 0x10000000, int(generator.integers(200))]))
        cut[4 * word : 4 * word + 4] = value.to_bytes(4, "little")
        parts[place] = bytes(cut[: len(cut) - int(generator.choice([0, 0, 0, 1, 4]))])
        numbers = [width, 3, 3, 6, 0]
        if generator.random() < 0.2:
            numbers[int(generator.integers(4))] = int(generator.choice([0, 1, 2, 9, 1 << 31]))
        try:
            trees = compiled._trees.Trees(*parts, *numbers)
            trees.score(rows, np.empty((11, 3), dtype=np.float32), np.empty(11, dtype=np.int64), 1)
        except (ValueError, OverflowError):
            refused += 1
    assert 1500 < refused < 3000, refused
    for bad in (rows[:, :4], rows.astype(float), rows[:, ::-1], rows[0], rows.tolist(), np.asfortranarray(rows)):
        assert sound.answer(bad) is None
    with pytest.raises(ValueError, match="another size"):
        compiled._trees.Trees(*whole, width, 3, 3, 6, 0).score(rows, np.empty(11, dtype=np.float32), None, 1)


def test_nothing_that_is_damaged_walks_astray() -> None:
    command = [sys.executable, "-c", "from tests.models.test_trees import tamper; tamper()"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr


def test_graphs_of_another_form_and_answers_that_differ_are_left_to_onnx_runtime() -> None:
    model = grown_graph(3, "binary", "LOGISTIC", trees=30, depth=5)
    graph = model.SerializeToString()
    session, other = opened(graph), opened(grown_graph(4, "binary", "LOGISTIC", trees=30, depth=5).SerializeToString())
    assert read_trees(graph, session) is not None
    assert fast_trees(graph, other) is None  # of the same form, with other answers
    assert fast_trees(b"", session) is None
    assert fast_trees(graph[:-9], session) is None
    probit = onnx.ModelProto.FromString(graph)
    for item in probit.graph.node[0].attribute:
        item.s = b"PROBIT" if item.name == "post_transform" else item.s
    assert read_trees(probit.SerializeToString(), session) is None
    more = onnx.ModelProto.FromString(graph)
    more.graph.node.append(helper.make_node("Sigmoid", ["probability"], ["again"]))
    more.graph.output[1].name = "again"
    assert read_trees(more.SerializeToString(), opened(more.SerializeToString())) is None


@pytest.mark.parametrize(
    ("made", "classes"),
    [
        (lightgbm.LGBMClassifier(n_estimators=30, num_leaves=15, verbose=-1, n_jobs=1), 2),
        (lightgbm.LGBMClassifier(n_estimators=10, num_leaves=7, verbose=-1, n_jobs=1), 3),
        (lightgbm.LGBMRegressor(n_estimators=30, num_leaves=15, verbose=-1, n_jobs=1), 0),
        (lightgbm.LGBMRegressor(n_estimators=9, num_leaves=32, min_child_samples=1, verbose=-1, n_jobs=1), 0),
        (lightgbm.LGBMRegressor(n_estimators=9, num_leaves=33, min_child_samples=1, verbose=-1, n_jobs=1), 0),
        (RandomForestClassifier(20, max_depth=6, random_state=0), 2),
        (RandomForestClassifier(20, max_depth=6, random_state=0), 3),
        (RandomForestRegressor(20, max_depth=6, random_state=0), 0),
        (GradientBoostingClassifier(n_estimators=20, random_state=0), 2),
        (HistGradientBoostingClassifier(max_iter=20, random_state=0), 3),
    ],
)
def test_models_of_our_converters_are_answered_by_the_compiled_part(made: Any, classes: int) -> None:
    generator = np.random.default_rng(0)
    numbers = generator.normal(size=(400, WIDTH)).astype(np.float32)
    goal = numbers[:, 0] + numbers[:, 1] * numbers[:, 2]
    if classes:
        goal = np.digitize(goal, np.quantile(goal, np.arange(1, classes) / classes))
    rows = pl.DataFrame(numbers.astype(float), schema=[f"x{number}" for number in range(WIDTH)])
    bundle = build_bundle(made.fit(numbers, goal), rows)
    predictor = bundle.predictor()
    evaluator = read_trees((bundle.folder / "model.onnx").read_bytes(), predictor._session)
    assert evaluator is not None
    assert_same_bits(evaluator, predictor._session, numbers)
    assert_same_bits(evaluator, predictor._session, odd_rows(0, 100))


def test_trees_behind_the_steps_of_a_pipeline_are_answered_by_the_compiled_part() -> None:
    generator = np.random.default_rng(0)
    numbers, words = generator.normal(size=(300, 2)).round(2), generator.choice(["a", "b", "c"], 300)
    rows = pl.DataFrame({"x": numbers[:, 0], "y": numbers[:, 1], "word": words})
    steps = ColumnTransformer(
        [("numbers", StandardScaler(), ["x", "y"]), ("words", OneHotEncoder(handle_unknown="ignore"), ["word"])]
    )
    model = make_pipeline(steps, lightgbm.LGBMClassifier(n_estimators=9, verbose=-1, n_jobs=1))
    goal = (numbers[:, 0] > 0) ^ (words == "a")
    predictor = build_bundle(model.fit(rows.to_pandas(), goal.astype(int)), rows).predictor()
    assert predictor._trees is None
    assert isinstance(predictor._steps, TreesInSteps)
    assert predictor._steps.answer(_feed(predictor, rows.head(7))) is None
    odd = rows.with_columns(
        pl.when(pl.int_range(pl.len()) % 7 == 0).then(float("nan")).otherwise(pl.col("x")).alias("x"),
        pl.when(pl.int_range(pl.len()) % 5 == 0).then(pl.lit("unseen")).otherwise(pl.col("word")).alias("word"),
    )
    for part in (odd, odd.head(8)):
        feed = _feed(predictor, part)
        assert compiled._same(predictor._steps.answer(feed), predictor._session, feed)
        answers = predictor.predict_rows(part.rows())
        assert compiled._same(answers, predictor._session, feed)
    with pytest.raises(ModelFailed, match="the model failed"):
        predictor.run({name: values[:, :0] for name, values in feed.items()})


def _feed(predictor: Any, rows: pl.DataFrame) -> dict[str, Array]:
    tensors = {column: tensor for column, tensor, *_ in predictor._tensors}
    kinds = {pl.Float64: np.float32, pl.String: object}
    return {
        tensors[name]: rows[name].to_numpy().astype(kinds[rows[name].dtype.base_type()])[:, None] for name in tensors
    }


def test_without_the_compiled_part_onnx_runtime_answers() -> None:
    code = (
        "import loopwright.models.trees as trees; assert trees._trees is None and trees.read_trees(b'', None) is None"
    )
    subprocess.run([sys.executable, "-c", code], env={**os.environ, WITHOUT: "1"}, check=True)
