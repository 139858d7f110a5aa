"""Bundles that earlier versions wrote still load."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np
from tests.models.conftest import Trips

from loopwright.models import Bundle, predict_frame

SINCE_THEN = ("code", "seal")


def test_a_manifest_of_the_first_form_says_all_that_is_needed(bundle: Bundle, trips: Trips, tmp_path: Path) -> None:
    shutil.copytree(bundle.folder, tmp_path / "old")
    path = tmp_path / "old" / "bundle.json"
    told = msgspec.json.decode(path.read_bytes())
    assert told["manifest_format"] == 1
    path.write_bytes(msgspec.json.encode({key: value for key, value in told.items() if key not in SINCE_THEN}))
    old = Bundle(tmp_path / "old")
    old.verify()
    assert not old.manifest.executes_code
    assert [item.shape for item in old.signature.inputs] == [()] * 6
    given = predict_frame(old.predictor(), trips.rows)["probability"].to_numpy()
    np.testing.assert_array_equal(given, predict_frame(bundle.predictor(), trips.rows)["probability"].to_numpy())
