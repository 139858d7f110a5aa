"""Evidence for rollouts, single predictions, and lineage down to them."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from tests.monitor.conftest import DAY, START, World

from loopwright.core import Invalid, NotFound, Scope, new_id
from loopwright.data import DatasetService
from loopwright.models import Bundle
from loopwright.monitor import MonitorService, TraceService
from loopwright.monitor.frames import prediction_frame
from loopwright.serve import Prediction
from loopwright.stats import Sufficient

HOUR = timedelta(hours=1)


def test_evidence_comes_per_version_in_the_order_asked_for_and_in_common_spans(world: World) -> None:
    a = world.predict(START, 480, chances=np.full(480, 0.3))
    b = world.predict(START, 96, model=world.second, chances=np.full(96, 0.1))
    world.label(a, [1] * 480)
    world.label(b, [0] * 96)
    world.monitors.advance()

    second, first = world.monitors.evidence("delay", START, [world.second, world.model])

    assert (first.model, second.model) == (world.model, world.second)
    assert (first.losses.n, second.losses.n) == (480, 96)
    assert first.losses.mean == pytest.approx(0.49)
    assert second.losses.mean == pytest.approx(0.01)
    assert [span.start for span in first.spans] == [span.start for span in second.spans]
    assert [span.start for span in first.spans] == [START + hour * HOUR for hour in range(24)]
    assert sum((span.losses for span in first.spans), Sufficient()).n == 480


def test_spans_begin_at_the_start_and_at_each_cut(world: World) -> None:
    world.predict(START, 96 * 4)
    world.monitors.advance()
    since, cut = START + 2.5 * HOUR, START + 4.25 * HOUR

    [found] = world.monitors.evidence("delay", since, [world.model], cuts=[cut])

    starts = [(span.start - START) / HOUR for span in found.spans[:5]]
    assert starts == [2.5, 3.0, 4.0, 4.25, 5.0]
    assert [(span.end - START) / HOUR for span in found.spans[:4]] == [3.0, 4.0, 4.25, 5.0]
    assert found.requests.n == 96 * 4 - 40


def test_evidence_before_the_beginning_is_left_out(world: World) -> None:
    world.predict(START, 100)
    world.monitors.advance()

    [found] = world.monitors.evidence("delay", START + DAY, [world.model])

    assert (found.requests.n, found.spans) == (0, [])


def test_evidence_is_of_one_endpoint_and_project(world: World) -> None:
    world.predict(START, 100, endpoint="other")
    world.monitors.advance()
    stranger = MonitorService(world.stores, Scope(project="elsewhere"), models=world.models)

    assert world.monitors.evidence("delay", START, [world.model])[0].requests.n == 0
    assert stranger.evidence("other", START, [world.model])[0].requests.n == 0
    assert world.monitors.evidence("other", START, [world.model])[0].requests.n == 100


@pytest.mark.parametrize("state", ["in the journal", "folded", "in the table"])
def test_a_prediction_is_found_from_the_moment_it_is_logged(world: World, state: str) -> None:
    ids = world.predict(START, 60, chances=np.full(60, 0.75))
    if state != "in the journal":
        world.label(ids[:30], [1] * 30)
        world.monitors.advance()
    if state == "in the table":
        world.monitors.compact()

    found = world.monitors.find_prediction(ids[5])

    assert found == world.monitors.find_prediction(f"prediction:{ids[5]}")
    assert (found.id, found.endpoint, found.model, found.status) == (ids[5], "delay", world.model, "ok")
    assert found.event_time == START + DAY * 5 / 60
    assert set(found.features) == {"load", "age", "site"}
    assert found.outputs == {"label": 1, "probability": 0.75}
    assert found.label == (None if state == "in the journal" else 1)


def test_an_unknown_prediction_is_not_found(world: World) -> None:
    with pytest.raises(NotFound, match="no prediction"):
        world.monitors.find_prediction(new_id())
    with pytest.raises(Invalid):
        world.monitors.find_prediction("prediction:nonsense")


def test_another_project_does_not_find_our_predictions(world: World) -> None:
    ids = world.predict(START, 10)
    world.monitors.advance()
    stranger = MonitorService(world.stores, Scope(project="other"), models=world.models)

    with pytest.raises(NotFound):
        stranger.find_prediction(ids[0])
    world.monitors.compact()
    with pytest.raises(NotFound):
        stranger.find_prediction(ids[0])


@pytest.fixture
def traced(world: World, bundle: Bundle) -> tuple[World, str]:
    """A version that was trained by a run on two dataset versions; the ref of that version."""
    run = new_id()
    with world.stores.db.begin() as tx:
        for source in ("dataset:flights@12", "dataset:weather@3"):
            world.stores.lineage.edge(tx, source, f"run:{run}", "input")
        world.stores.lineage.edge(tx, f"code:{'a' * 64}", f"run:{run}", "code")
    ref = world.models.register("traced", bundle, run=run, training_data=["dataset:flights@12"]).ref
    return world, ref


def test_a_prediction_leads_up_to_the_data_and_code_behind_its_version(traced: tuple[World, str]) -> None:
    world, model = traced
    [one, *_] = world.predict(START, 5, model=model)

    found = TraceService(world.stores, Scope()).trace(f"prediction:{one}")

    refs = [node.ref for node in found.nodes]
    assert refs[:2] == [f"prediction:{one}", model]
    assert {"dataset:flights@12", "dataset:weather@3", f"code:{'a' * 64}"} <= set(refs)
    assert found.prediction is not None
    assert found.prediction.model == model
    assert {(edge.source, edge.target) for edge in found.edges} >= {(model, f"prediction:{one}")}


def test_a_dataset_version_leads_down_to_the_predictions_that_rest_on_it(traced: tuple[World, str]) -> None:
    world, model = traced
    ids = world.predict(START, 30, model=model)
    world.predict(START, 30)
    world.monitors.advance()
    lineage = TraceService(world.stores, Scope())

    found = lineage.trace("dataset:weather@3", direction="down")

    assert [(use.model, use.endpoint, use.rows) for use in found.uses] == [(model, "delay", 30)]
    shown = {node.ref for node in found.nodes if node.kind == "prediction"}
    assert shown <= {f"prediction:{one}" for one in ids}
    assert len(shown) == 10
    listed = lineage.predictions("dataset:weather@3", limit=20)
    rest = lineage.predictions("dataset:weather@3", limit=20, after=listed[-1].id)
    assert [one.id for one in [*listed, *rest]] == sorted(ids, reverse=True)


def test_a_ref_without_a_version_is_traced_at_the_one_that_it_stands_for(traced: tuple[World, str]) -> None:
    world, model = traced
    world.models.set_alias("traced", "champion", 1)
    DatasetService(world.stores, Scope()).ingest("rows", pl.DataFrame({"x": [1]}))
    lineage = TraceService(world.stores, Scope())

    assert lineage.trace("model:traced@champion").root == lineage.trace("model:traced").root == model
    assert lineage.trace("dataset:rows").root == "dataset:rows@1"


def test_a_trace_of_the_unknown_is_not_found(world: World) -> None:
    with pytest.raises(NotFound):
        TraceService(world.stores, Scope()).trace("dataset:nowhere@1")


def prediction(features: dict[str, object], outputs: dict[str, object]) -> Prediction:
    return Prediction(new_id(), "e", "v", "model:m@1", 0, 0, "", tuple(features), list(features.values()), outputs, 5)


def test_rows_of_versions_with_other_inputs_fit_one_table(world: World) -> None:
    generations = [
        prediction({"x": 1, "where": "a"}, {"value": 1}),
        prediction({"x": 2.5, "where": "b", "new": True}, {"value": 2.5}),
        prediction({"x": "text now", "where": 3.0}, {"probabilities": [0.1, 0.9]}),
        prediction({"a b": None, "c;d": 1}, {}),
    ]
    for row in generations:
        kept = world.stores.tables.scan("t").collect_schema() if world.stores.tables.exists("t") else None
        world.stores.tables.append("t", prediction_frame([row], kept), new_columns="add")

    rows = world.stores.tables.read("t").sort("id")
    assert rows["input_x"].to_list() == [1.0, 2.5, None, None]
    assert rows["input_x_as_string"].to_list() == [None, None, "text now", None]
    assert rows["input_where"].to_list() == ["a", "b", None, None]
    assert rows["input_where_as_float64"].to_list() == [None, None, 3.0, None]
    assert rows["input_c_d"].to_list() == [None, None, None, 1.0]
    assert rows["output_probabilities"].to_list()[2] == [0.1, 0.9]


def test_rows_of_mixed_versions_fit_one_frame() -> None:
    rows = [prediction({"x": 1}, {"value": 1}), prediction({"y": "b"}, {"value": None}), prediction({"x": "s"}, {})]

    frame = prediction_frame(rows, None)

    assert frame["input_x"].to_list() == ["1", None, '"s"']
    assert frame.schema["output_value"] == pl.Float64
