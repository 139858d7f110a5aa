"""What runs read and made, over MLflow's protocol."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.server.protocols.mlflow.conftest import Server


def dataset(name: str = "flights", digest: str = "abc", context: str = "training", **more: str) -> dict[str, Any]:
    described = {"name": name, "digest": digest, "source_type": "local", "source": '{"uri": "x"}', **more}
    return {"dataset": described, "tags": [{"key": "mlflow.data.context", "value": context}]}


def test_datasets_come_back_with_their_schema_profile_and_tags(both: Server) -> None:
    run = both.run()
    given = [dataset(schema='{"a": 1}', profile='{"rows": 5}'), dataset("weather", "def", "eval")]
    both.post("runs/log-inputs", run_id=run, datasets=given)
    assert both.look(run)["inputs"]["dataset_inputs"] == given
    [seen] = both.post("runs/search", experiment_ids=["0"], filter="dataset.name = 'weather'")["runs"]
    assert seen["info"]["run_id"] == run
    none = both.post("runs/search", experiment_ids=["0"], filter="dataset.context = 'test'")
    assert none.get("runs", []) == []


def test_the_same_dataset_twice_is_one_with_the_first_description_and_the_new_tags(both: Server) -> None:
    run, other = both.run(), both.run()
    both.post("runs/log-inputs", run_id=run, datasets=[dataset(profile="first"), dataset(profile="second")])
    both.post("runs/log-inputs", run_id=other, datasets=[dataset(profile="third", context="test")])
    both.post("runs/log-inputs", run_id=run, datasets=[dataset(context="eval")])
    assert both.look(run)["inputs"]["dataset_inputs"] == [dataset(profile="first", context="eval")]
    assert both.look(other)["inputs"]["dataset_inputs"] == [dataset(profile="first", context="test")]


def test_the_datasets_of_experiments_are_summed_up(both: Server) -> None:
    made = both.post("experiments/create", name="x")["experiment_id"]
    for experiment in ("0", made):
        for _ in range(2):
            run = both.run(experiment_id=experiment)
            both.post("runs/log-inputs", run_id=run, datasets=[dataset(), dataset("weather", context="eval")])
    summaries = both.post("experiments/search-datasets", experiment_ids=["0"])["dataset_summaries"]
    assert summaries == [
        {"experiment_id": "0", "name": "flights", "digest": "abc", "context": "training"},
        {"experiment_id": "0", "name": "weather", "digest": "abc", "context": "eval"},
    ]
    of_both = both.post("experiments/search-datasets", experiment_ids=["0", made])["dataset_summaries"]
    assert {item["experiment_id"] for item in of_both} == {"0", made}


def test_models_read_and_made_come_back(both: Server) -> None:
    run = both.run()
    both.post("runs/log-inputs", run_id=run, models=[{"model_id": "m-1"}])
    both.post("runs/outputs", run_id=run, models=[{"model_id": "m-2", "step": "3"}, {"model_id": "m-3"}])
    seen = both.look(run)
    assert seen["inputs"]["model_inputs"] == [{"model_id": "m-1"}]
    assert {(item["model_id"], item.get("step", 0)) for item in seen["outputs"]["model_outputs"]} == {
        ("m-2", 3),
        ("m-3", 0),
    }


def test_models_of_old_clients_are_listed_in_a_tag(both: Server) -> None:
    run = both.run()
    for path in ("a", "b"):
        model = {"artifact_path": path, "flavors": {}, "utc_time_created": "now", "run_id": run, "signature": "long"}
        both.post("runs/log-model", run_id=run, model_json=json.dumps(model))
    tags = {tag["key"]: tag["value"] for tag in both.look(run)["data"]["tags"]}
    listed = json.loads(tags["mlflow.log-model.history"])
    assert [item["artifact_path"] for item in listed] == ["a", "b"]
    assert "signature" not in listed[0]


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("runs/log-inputs", {"datasets": [{"tags": []}]}),
        ("runs/log-inputs", {"datasets": [dataset(name="")]}),
        ("runs/log-inputs", {"datasets": [dataset(name="x" * 501)]}),
        ("runs/log-inputs", {"datasets": [dataset(digest="x" * 65)]}),
        ("runs/log-inputs", {"datasets": [dataset(schema="x" * 1_048_576)]}),
        ("runs/log-inputs", {"datasets": [dataset(context="x" * 501)]}),
        ("runs/log-inputs", {"datasets": [dataset(name="a\x00b")]}),
        ("runs/log-inputs", {"datasets": [dataset()] * 1001}),
        ("runs/outputs", {}),
        ("runs/log-model", {"model_json": "{"}),
        ("runs/log-model", {"model_json": "[]"}),
        ("runs/log-model", {"model_json": "{}"}),
        ("runs/log-model", {}),
    ],
)
def test_malformed_inputs_are_refused(server: Server, path: str, fields: dict[str, object]) -> None:
    run = server.run()
    assert server.refused(path, run_id=run, **fields)[:2] == (400, "INVALID_PARAMETER_VALUE")
    assert server.look(run).get("inputs", {}) == {}


@pytest.mark.parametrize("experiments", [[], ["0"] * 21])
def test_a_sum_of_no_or_too_many_experiments_is_refused(server: Server, experiments: list[str]) -> None:
    assert server.refused("experiments/search-datasets", experiment_ids=experiments)[0] == 400
