"""What the page on protocols shows is what the process answers."""

from __future__ import annotations

import re

import msgspec
import pytest
from tests.shape.source import ROOT

from loopwright.serve.dataplane import DataPlane
from loopwright.serve.explaining import Explanation
from loopwright.serve.feedback import read_feedback
from loopwright.serve.metrics import Metrics
from loopwright.serve.prediction_log import NoPredictionLog
from loopwright.serve.rest import App, Contract, contract_from
from loopwright.serve.rest.native import PredictRequest

TEXT = (ROOT / "docs" / "how-to" / "serve.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```json[^\n]*\n(.*?)```", TEXT, re.DOTALL)
SHOWN = [
    ("POST", "/endpoints/NAME/predict"),
    ("POST", "/endpoints/NAME/versions/V/predict"),
    ("GET", "/endpoints/NAME"),
    ("POST", "/endpoints/NAME/feedback"),
    ("GET", "/v2"),
    ("POST", "/v2/models/NAME/infer"),
    ("GET", "/v2/models/NAME/versions/V/ready"),
    ("GET", "/v2/models/NAME/config"),
    ("GET", "/v2/models/NAME/stats"),
    ("POST", "/v2/repository/index"),
    ("POST", "/v1/models/NAME/versions/V:predict"),
    ("POST", "/v1/models/NAME/labels/L:classify"),
    ("POST", "/v1/models/NAME:regress"),
    ("POST", "/invocations"),
    ("GET", "/ping"),
    ("GET", "/health"),
    ("GET", "/version"),
    ("GET", "/models"),
    ("POST", "/models/NAME/invoke"),
    ("POST", "/endpoints/NAME/invocations"),
    ("POST", "/predict"),
    ("POST", "/v1/projects/P/locations/L/endpoints/NAME:predict"),
    ("POST", "/score"),
    ("GET", "/"),
    ("GET", "/metrics"),
]


@pytest.mark.parametrize(("method", "path"), SHOWN)
def test_a_path_that_is_shown_is_there(method: str, path: str) -> None:
    app = App(DataPlane(NoPredictionLog(), Metrics()))
    route, _ = app.router.find(method.encode(), path.encode())
    assert route.method == method


def test_the_request_and_the_explanation_that_are_shown_have_their_form() -> None:
    request, answer, by_key, feedback = BLOCKS
    assert msgspec.json.decode(request, type=PredictRequest).explain is True
    assert msgspec.json.decode(by_key, type=PredictRequest).keys == {"origin": "JFK"}
    assert len(read_feedback(feedback.encode())) == 1
    [told] = msgspec.json.decode(answer)["predictions"]
    explanation = msgspec.convert(told["explanation"], Explanation)
    assert sum(explanation.values.values()) == pytest.approx(explanation.answer - explanation.baseline)


def test_each_variable_that_is_shown_is_read() -> None:
    [table] = re.findall(r"^## In a container.*?(?=^Azure)", TEXT, re.DOTALL | re.MULTILINE)
    names = re.findall(r"`([A-Z_]+)`", table)
    assert len(names) > 8
    for name in names:
        others = {"AIP_HTTP_PORT": "1"} if name.startswith("AIP_") else {}
        others |= {"MLSERVER_HTTP_PORT": "1"} if name.startswith("MLSERVER_") else {}
        value = "9" if name.endswith(("PORT", "WORKERS")) else "/path" if name.endswith("ROUTE") else "word"
        given = contract_from({**others, name: value})
        assert given not in (Contract(), contract_from(others)), name
