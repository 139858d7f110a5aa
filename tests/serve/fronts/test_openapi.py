"""The process describes what it answers; that it keeps to it is tried by schemathesis, in tests/interop."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from loopwright.serve.rest.contract import Contract
from loopwright.serve.rest.openapi import describe

pytestmark = pytest.mark.slow


def test_the_description_is_valid_and_names_what_is_served(web: httpx.Client) -> None:
    from openapi_spec_validator import validate  # loads for three seconds

    told: dict[str, Any] = web.get("/openapi.json").raise_for_status().json()
    validate(told)
    infer = told["paths"]["/v2/models/{model}/infer"]["post"]
    assert infer["parameters"][0]["schema"]["enum"] == ["plus", "trips"]
    assert {"200", "400", "404", "413", "503"} <= set(infer["responses"])
    assert "500" not in infer["responses"]


def test_what_a_platform_chose_is_described_too(make_plane: Any) -> None:
    from openapi_spec_validator import validate  # loads for three seconds

    from loopwright.serve.rest.app import App

    app = App(make_plane().plane, contract=Contract(health=("/alive",), predict=("/ask",)))
    told = describe(app.table, [])
    validate(told)
    assert told["paths"]["/alive"]["get"]["tags"] == told["paths"]["/ping"]["get"]["tags"]
    assert told["paths"]["/ask"]["post"]["summary"] == "Predict."
    assert "enum" not in told["paths"]["/models/{model}"]["get"]["parameters"][0]["schema"]
