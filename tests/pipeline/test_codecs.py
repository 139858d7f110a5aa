"""Values come back equal, equal values give equal digests, and nothing that is read can run code."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from tests.examples import examples

from loopwright.core import Forbidden, Invalid
from loopwright.pipeline.codecs import Codec, codec, codecs, dump_value, inline_value, load_value
from loopwright.pipeline.model import StepOptions, Stored
from loopwright.store import ObjectStore, open_objects


@pytest.fixture
def objects(tmp_path: Path) -> ObjectStore:
    return open_objects(str(tmp_path / "objects"))


@pytest.fixture
def keep(objects: ObjectStore, tmp_path: Path) -> Any:
    """Stores a value and reads it again."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    def there_and_back(value: Any) -> Any:
        return load_value(objects, dump_value(objects, value, scratch), scratch)

    return there_and_back


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=8,
)
mixed = st.recursive(
    plain | st.binary(max_size=8) | st.dates(),
    lambda inner: (
        st.tuples(inner, inner)
        | st.lists(inner, max_size=12)
        | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=examples(40), deadline=None, suppress_health_check=list(HealthCheck))
@given(value=mixed)
def test_plain_and_mixed_values_come_back_equal_with_their_types(keep: Any, value: Any) -> None:
    back = keep(value)
    assert (back, repr(back)) == (value, repr(value))


@settings(max_examples=examples(30), deadline=None, suppress_health_check=list(HealthCheck))
@given(value=mixed)
def test_a_stored_value_survives_its_record(objects: ObjectStore, tmp_path: Path, value: Any) -> None:
    stored = dump_value(objects, value, tmp_path)
    record = msgspec.json.decode(msgspec.json.encode(stored), type=Stored)
    assert load_value(objects, record, tmp_path) == value


def test_numbers_that_json_lacks_come_back(keep: Any) -> None:
    back = keep([math.nan, math.inf, -math.inf, -0.0])
    assert math.isnan(back[0])
    assert (back[1:3], math.copysign(1, back[3])) == ([math.inf, -math.inf], -1.0)


@pytest.mark.parametrize(
    "value",
    [
        pl.DataFrame({"a": [1, None], "b": ["x", "ü"], "c": [[1], []], "d": [{"x": 1}, {"x": 2}]}),
        pl.DataFrame({"t": [datetime(2026, 1, 1, tzinfo=UTC)]}),
        pl.DataFrame(),
    ],
)
def test_tables_come_back_with_their_types(keep: Any, value: pl.DataFrame) -> None:
    assert_frame_equal(keep(value), value)
    assert_frame_equal(keep(value.lazy()).collect(), value)


def test_pandas_and_arrow_tables_come_back(keep: Any) -> None:
    import pandas as pd

    frame = pd.DataFrame({"a": [1, 2]}, index=pd.Index(["x", "y"], name="key"))
    pd.testing.assert_frame_equal(keep(frame), frame)
    series = pd.Series([1.5, 2.5])
    pd.testing.assert_series_equal(keep(series), series)
    table = pl.DataFrame({"a": [1, 2]}).to_arrow()
    assert keep(table).equals(table)
    assert keep(pl.Series("s", [1, 2])).to_list() == [1, 2]


@pytest.mark.parametrize(
    "value", [np.arange(6).reshape(2, 3), np.array(["a", "b"]), np.float32(0.5), np.array([], dtype=np.int8)]
)
def test_arrays_come_back_with_their_types(keep: Any, value: Any) -> None:
    back = keep(value)
    assert np.array_equal(back, value)
    assert (back.dtype, type(back)) == (value.dtype, type(value))


def test_records_dates_bytes_and_files_come_back(keep: Any, tmp_path: Path) -> None:
    assert keep(StepOptions(retries=2)) == StepOptions(retries=2)
    assert keep(date(2026, 1, 2)) == date(2026, 1, 2)
    assert keep(datetime(2026, 1, 2, 3, tzinfo=UTC)) == datetime(2026, 1, 2, 3, tzinfo=UTC)
    folder = tmp_path / "made"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.bin").write_bytes(b"\x00\x01")
    assert (keep(folder) / "deep" / "a.bin").read_bytes() == b"\x00\x01"
    assert (keep(folder / "deep" / "a.bin") / "a.bin").read_bytes() == b"\x00\x01"


def fitted() -> tuple[Any, Any]:
    from lightgbm import LGBMClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    random = np.random.default_rng(1)
    x, y = random.normal(size=(200, 4)), random.integers(0, 2, 200)
    linear = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y)
    trees = LGBMClassifier(n_estimators=5, num_leaves=4, n_jobs=1, verbose=-1).fit(x, y)
    return linear, trees


@pytest.mark.slow
def test_models_come_back_and_predict_the_same(keep: Any) -> None:
    rows = np.random.default_rng(2).normal(size=(50, 4))
    for model in fitted():
        assert np.array_equal(keep(model).predict_proba(rows), model.predict_proba(rows))
    booster = fitted()[1].booster_
    assert np.array_equal(keep(booster).predict(rows), booster.predict(rows))


def test_the_same_model_gives_the_same_bytes(objects: ObjectStore, tmp_path: Path) -> None:
    first = [dump_value(objects, model, tmp_path).digest for model in fitted()]
    assert [dump_value(objects, model, tmp_path).digest for model in fitted()] == first


def test_the_same_table_gives_the_same_bytes(objects: ObjectStore, tmp_path: Path) -> None:
    frames = [pl.DataFrame({"a": range(1000)}) for _ in range(2)]
    assert len({dump_value(objects, frame, tmp_path).digest for frame in frames}) == 1


class Sneaky:
    def __reduce__(self) -> Any:
        return print, ("run!",)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (object(), "builtins.object, which no codec can keep"),
        ([1, {"deep": Sneaky()}], r"the output\[1\]\['deep'\] is a .*Sneaky"),
        (np.array([Sneaky()]), "Python objects cannot be kept"),
        ({1: b"x"}, "keys that are no texts"),
        (Path("/nowhere/at/all"), "no file or folder"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_its_place(
    objects: ObjectStore, tmp_path: Path, value: Any, problem: str
) -> None:
    with pytest.raises(Invalid, match=problem):
        dump_value(objects, value, tmp_path)
    assert list(tmp_path.iterdir()) in ([], [tmp_path / "objects"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "name"),
    [("os", "system"), ("numpy.testing", "runstring"), ("functools", "partial"), ("sklearn.nowhere", "Thing")],
)
def test_a_model_with_a_type_from_nowhere_is_not_loaded(
    objects: ObjectStore, tmp_path: Path, module: str, name: str
) -> None:
    """The archive names something that a pickle would run."""
    import io
    import json
    from zipfile import ZipFile

    stored = dump_value(objects, fitted()[0], tmp_path)
    source = ZipFile(io.BytesIO(objects.get(stored.digest)))
    target = io.BytesIO()
    with ZipFile(target, "w") as archive:
        for member in source.namelist():
            data = source.read(member)
            if member == "schema.json":
                schema = json.loads(data)
                schema.update({"__class__": name, "__module__": module, "__loader__": "ObjectNode"})
                data = json.dumps(schema).encode()
            archive.writestr(member, data)
    evil = Stored("skops", objects.put_bytes(target.getvalue()))
    with pytest.raises(Forbidden, match=rf"not trusted: {module}\.{name}"):
        load_value(objects, evil, tmp_path)


def test_a_record_cannot_name_anything_but_a_record(objects: ObjectStore, tmp_path: Path) -> None:
    digest = objects.put_bytes(b'{"class":"os:system","value":{}}')
    with pytest.raises(Exception, match="no record type"):
        load_value(objects, Stored("struct", digest), tmp_path)


def test_a_part_is_read_without_the_rest(objects: ObjectStore, tmp_path: Path) -> None:
    stored = dump_value(objects, {"a": b"first", "b": [b"x", {"c": 7}]}, tmp_path)
    rest = stored.part("a")
    assert rest is not None
    objects.delete(rest.digest)
    assert load_value(objects, stored, tmp_path, ("b", 1, "c")) == 7
    for path, problem in ((("z",), "its parts: a, b"), (("b", 1, "d"), "KeyError"), (("b", 1, "c", 0), "TypeError")):
        with pytest.raises(Invalid, match=problem):
            load_value(objects, stored, tmp_path, path)


def test_a_list_keeps_its_order_beyond_ten(keep: Any) -> None:
    value = [bytes([number]) for number in range(25)]
    assert keep(value) == value
    assert keep(tuple(value)) == tuple(value)


def test_outputs_are_shown_as_json_where_they_are(objects: ObjectStore, tmp_path: Path) -> None:
    value = {"n": 1, "table": pl.DataFrame({"a": [1]}), "options": StepOptions(), "list": [1.5, b"x"]}
    shown = inline_value(objects, dump_value(objects, value, tmp_path))
    assert (shown["n"], shown["options"]["retries"], shown["list"][0]) == (1, 0, 1.5)
    assert shown["table"]["codec"] == "polars"
    assert inline_value(objects, dump_value(objects, [math.nan], tmp_path))["codec"] == "json"


def test_a_stranger_adds_a_codec_by_the_same_door(keep: Any) -> None:
    class Celsius:
        def __init__(self, degrees: float) -> None:
            self.degrees = degrees

    @codec("test-celsius")
    class CelsiusCodec:
        def accepts(self, value: Any) -> bool:
            return isinstance(value, Celsius)

        def save(self, value: Celsius, path: Path) -> None:
            path.write_text(str(value.degrees))

        def load(self, path: Path) -> Celsius:
            return Celsius(float(path.read_text()))

    found: type[Codec] = codecs.get("test-celsius")
    try:
        assert found is CelsiusCodec
        assert keep([Celsius(36.6)])[0].degrees == 36.6
    finally:
        codecs._items.pop("test-celsius")
