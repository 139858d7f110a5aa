"""Loops declared in YAML and in Python, and what is said of those that make no sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from loopwright.core import Invalid
from loopwright.loop import (
    ApprovalPolicy,
    Every,
    Loop,
    OnAlert,
    check_loop,
    every,
    load_loops,
    on_alert,
    on_new_version,
)
from loopwright.release import AtLeast, Beats, RolloutPlan, RolloutStep

GOOD = """
name: delay
endpoint: delay
model: delay
pipeline: flights.training:train
triggers:
  - {kind: on_alert, monitor: delay}
  - {kind: every, seconds: 2592000}
params:
  until: "{now}"
  days: 90
gates:
  - {kind: beats, metric: log_loss, against: champion, min_effect: -0.005}
  - {kind: at_least, metric: auc, value: 0.6}
approval: person
rollout:
  steps: [0.05, {share: 0.25, min_labels: 500}, 0.5]
  max_loss_increase: 0.01
cooldown_s: 86400
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "loop.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_loop_in_yaml_is_the_loop_in_python(tmp_path: Path) -> None:
    assert load_loops(written(tmp_path, GOOD)) == [
        Loop(
            name="delay",
            endpoint="delay",
            model="delay",
            pipeline="flights.training:train",
            triggers=(on_alert("delay"), every(days=30)),
            params={"until": "{now}", "days": 90},
            gates=(Beats("log_loss", min_effect=-0.005), AtLeast("auc", 0.6)),
            approval=ApprovalPolicy.PERSON,
            rollout=RolloutPlan(steps=(0.05, RolloutStep(0.25, min_labels=500), 0.5), max_loss_increase=0.01),
            cooldown_s=86_400,
        )
    ]


def test_several_loops_may_stand_in_one_file(tmp_path: Path) -> None:
    two = "name: {0}\nendpoint: e\nmodel: m\npipeline: a:b\n"
    text = two.format("one") + "---\n" + two.format("two")
    assert [loop.name for loop in load_loops(written(tmp_path, text))] == ["one", "two"]
    listed = "- {name: a, endpoint: e, model: m, pipeline: a:b}\n- {name: b, endpoint: e, model: m, pipeline: a:b}\n"
    assert [loop.name for loop in load_loops(written(tmp_path, listed))] == ["a", "b"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("pipeline: flights", "pipelin: flights", "unknown field `pipelin`"),
        ("kind: beats", "kind: wins", "$.gates[0].kind"),
        ("metric: log_loss", "metrik: log_loss", "$.gates[0]"),
        ("value: 0.6", "value: high", "Expected `float`, got `str` - at `$.gates[1].value`"),
        ("flights.training:train", "train", "field pipeline: 'train' is not a pipeline (write module:function)"),
        ("{now}", "{yesterday}", "field params.until: nobody fills {yesterday}"),
        ("[0.05,", "[0.5,", "field rollout.steps[1]: a share of 0.25 cannot follow 0.5"),
        ("seconds: 2592000", "seconds: 0", "field triggers[1]: 0 seconds is no period"),
        ("monitor: delay", "monitor: ../x", "field triggers[0]: '../x' cannot name a monitor"),
        ("approval: person", "approval: nobody", "$.approval"),
        ("cooldown_s: 86400", "cooldown_s: -1", "field cooldown_s: -1.0 is too low (write at least 0)"),
        ("metric: log_loss", "metric: charm", "field gates[0].direction: nobody knows which way 'charm' is better"),
    ],
)
def test_a_mistake_is_told_with_file_and_field(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = written(tmp_path, GOOD.replace(old, new))
    with pytest.raises(Invalid) as raised:
        load_loops(path)
    assert str(path) in str(raised.value)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "declares no loop"),
        ("- [1, 2", "not valid YAML"),
        ("just words", "Expected `object`, got `str`"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_what_is_no_loop_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        load_loops(written(tmp_path, text))


def test_a_missing_file_is_told() -> None:
    with pytest.raises(Invalid, match="cannot be read"):
        load_loops("nowhere/loop.yaml")


def test_a_loop_survives_being_stored() -> None:
    loop = Loop(name="a", endpoint="e", model="m", pipeline="a:b", triggers=(OnAlert("x"), Every(60.0)))
    stored: Any = msgspec.to_builtins(loop)
    assert msgspec.convert(stored, Loop) == loop
    assert check_loop(loop) is loop
    assert on_new_version("flights").dataset == "flights"
