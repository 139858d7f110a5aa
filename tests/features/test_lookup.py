"""A lookup gives at the time of a request what the point-in-time join gives for it, and nothing of it can be forged."""

from __future__ import annotations

import math
import struct
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.examples import examples

from loopwright.core import Corrupt, Invalid, new_id
from loopwright.features import (
    Entity,
    FeatureLookup,
    FeatureService,
    FeatureStore,
    FeatureView,
    LookupReader,
    RequestView,
    merged,
    read_lookup,
    write_lookup,
)
from loopwright.features.keeping import body_of, digest_of

T0 = datetime(2020, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
WEATHER = FeatureView(
    "weather",
    Entity("airport", ["origin"]),
    "weather",
    "at",
    {"temp": "temp", "gusts": pl.col("gusts").cast(pl.Int32), "seen": "at"},
    ttl=6 * HOUR,
    defaults={"gusts": 3},
)
PAIRS = FeatureView("route", Entity("route", ["origin", "dest"]), "routes", "at", {"late": "late"}, required=True)
ASKED = RequestView(
    "asked",
    {"heat": pl.col("temp") * 0.1 + pl.col("factor"), "hour": pl.col("when").dt.hour(), "day": "when - seen"},
)
SERVICE = FeatureService("flights", [WEATHER, PAIRS, ASKED])
SPINE = pl.DataFrame(
    {
        "origin": ["JFK", "JFK", "LGA", "EWR", None],
        "dest": ["MIA", "BOS", "MIA", "MIA", "MIA"],
        "factor": [0.1, 0.2, 0.3, None, 0.5],
        "when": [T0 + hours * HOUR for hours in (1, 7, 5, 5, 5)],
    },
    schema_overrides={"when": pl.Datetime("us", "UTC")},
)


@pytest.fixture
def store(features: FeatureStore) -> FeatureStore:
    """Weather and routes, applied and online."""
    weather = pl.DataFrame(
        {"origin": ["JFK", "LGA"], "at": [T0, T0], "temp": [1 / 3, None], "gusts": [None, 4]},
        schema_overrides={"gusts": pl.Float32},
    )
    routes = pl.DataFrame({"origin": ["JFK", "LGA"], "dest": ["MIA", "MIA"], "at": [T0, T0], "late": [0.1, 0.7]})
    features.datasets.ingest("weather", weather)
    features.datasets.ingest("routes", routes)
    features.apply(WEATHER, PAIRS, ASKED, SERVICE)
    features.materialise_all(until=T0 + HOUR)
    return features


def request_of(spine: pl.DataFrame) -> dict[str, list[Any]]:
    """The rows as JSON brings them: times are texts."""
    columns = msgspec.json.decode(msgspec.json.encode(spine.drop("when").to_dict(as_series=False)))
    return {**columns, "when": [when.isoformat() for when in spine["when"]]}


def test_a_lookup_gives_bit_for_bit_what_the_join_gives_at_the_same_time(store: FeatureStore) -> None:
    joined = store.historical(SPINE, "flights", "when").collect()
    lookup = read_lookup(write_lookup(store.lookup(SPINE, "flights", "when")))
    reader, moments = LookupReader(lookup), SPINE["when"].to_list()
    found, unknown = reader.read(store.stores.online, reader.typed(request_of(SPINE), moments), moments)
    assert set(lookup.columns) == {"temp", "gusts", "seen", "late", "heat", "hour", "day"}
    assert found.schema == {name: joined.schema[name] for name in lookup.columns}
    assert found.equals(joined.select(lookup.columns))  # NaN and null included
    assert found["gusts"].to_list() == [3, 3, 4, 3, 3]  # a default stands for a null, a stale row and no row alike
    assert [(one.view, one.row) for one in unknown] == [("route", 1), ("route", 3), ("route", 4)]
    assert lookup.refs == ("feature:weather@1", "feature:route@1", "feature:asked@1")


def test_a_model_looks_up_no_more_than_it_needs(store: FeatureStore) -> None:
    whole = store.lookup(SPINE, "flights", "when")
    mine = whole.for_inputs(["heat", "factor"])
    assert mine.columns == ("temp", "seen", "heat")  # with what the request view is computed of
    assert [name for name, _ in mine.request] == ["origin", "factor", "when"]  # routes are not looked up
    with pytest.raises(Invalid, match="takes none of them"):
        whole.for_inputs(["distance"])


def test_rows_that_were_joined_in_steps_have_one_lookup(store: FeatureStore) -> None:
    joined = store.historical(SPINE, ["weather"], "when")
    both = merged([store.lookup(SPINE, ["weather"], "when"), store.lookup(joined, ["asked"], "when")])
    assert both.columns == ("temp", "gusts", "seen", "heat", "hour", "day")
    assert [name for name, _ in both.request] == ["origin", "factor", "when"]
    with pytest.raises(Invalid, match="column temp"):
        merged([both, store.lookup(SPINE, ["weather:temp"], "when")])


def test_a_request_without_its_time_is_about_the_moment_of_asking(store: FeatureStore) -> None:
    reader = LookupReader(store.lookup(SPINE, "flights", "when"))
    frame = reader.typed({"origin": ["JFK"], "dest": ["MIA"], "factor": [1]}, [T0 + 2 * HOUR])
    assert frame["when"].to_list() == [T0 + 2 * HOUR]
    assert reader.typed({**request_of(SPINE.head(1)), "when": [None]}, [T0])["when"].to_list() == [None]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("origin", 3, "input 'origin', row 1: takes String, not '3'"),
        ("factor", "3", "input 'factor', row 1: takes Float64, not '3'"),
        ("factor", True, "input 'factor', row 1: takes Float64, not 'True'"),
        ("when", "yesterday", "input 'when', row 1: takes Datetime"),
        ("when", 1.5, "input 'when', row 1: takes Datetime"),
    ],
)
def test_a_value_that_does_not_fit_is_named(store: FeatureStore, column: str, value: Any, message: str) -> None:
    reader = LookupReader(store.lookup(SPINE, "flights", "when"))
    brought = request_of(SPINE.head(2))
    brought[column][1] = value
    with pytest.raises(Invalid) as refused:
        reader.typed(brought, [T0, T0])
    assert message in str(refused.value)
    del brought["origin"]
    with pytest.raises(Invalid, match="need 'origin'"):
        reader.typed(brought, [T0, T0])


NUMBERS = st.none() | st.floats(width=64) | st.floats(width=32)
STATES = st.lists(
    st.tuples(st.sampled_from(["JFK", "LGA", ""]), st.integers(-9, 3), NUMBERS, st.none() | st.integers(-(2**31), 99)),
    min_size=1,
    max_size=8,
)
ASKING = st.lists(st.tuples(st.sampled_from(["JFK", "LGA", "", None]), NUMBERS), min_size=1, max_size=5)


@pytest.mark.slow
@settings(max_examples=examples(25), deadline=None, suppress_health_check=list(HealthCheck))
@given(states=STATES, asking=ASKING, has_ttl=st.booleans(), has_default=st.booleans())
def test_whatever_is_known_a_lookup_now_has_the_bits_of_the_join_at_the_same_time(
    features: FeatureStore, states: list[Any], asking: list[Any], has_ttl: bool, has_default: bool
) -> None:
    name = f"t{new_id()}"
    schema = {"origin": pl.String, "hours": pl.Int64, "temp": pl.Float64, "gusts": pl.Int32}
    rows = pl.DataFrame(states, schema=schema, orient="row").with_columns(
        at=pl.lit(T0).cast(pl.Datetime("us", "UTC")) + pl.duration(hours=pl.col("hours"))
    )
    expressions = {"temp": "temp", "small": pl.col("temp").cast(pl.Float32), "gusts": "gusts"}
    view = FeatureView(
        name,
        Entity("airport", ["origin"]),
        name,
        "at",
        expressions,
        ttl=6 * HOUR if has_ttl else None,
        defaults={"gusts": 3, "small": 0.1} if has_default else None,
    )
    asked = RequestView(f"r{name}", {"heat": pl.col("temp") * 0.1 + pl.col("factor"), "calm": pl.col("gusts") < 4})
    features.datasets.ingest(name, rows)
    features.apply(view, asked)
    features.materialise(name, until=T0)
    spine = pl.DataFrame(asking, schema={"origin": pl.String, "factor": pl.Float64}, orient="row")
    spine = spine.with_columns(pl.lit(T0).cast(pl.Datetime("us", "UTC")).alias("when"))
    joined = features.historical(spine, [name, asked.name], "when").collect()
    reader = LookupReader(features.lookup(spine, [name, asked.name], "when"))
    brought = {"origin": [row[0] for row in asking], "factor": [row[1] for row in asking]}
    moments = [T0] * len(asking)
    found, _ = reader.read(features.stores.online, reader.typed(brought, moments), moments)
    assert bits_of(found) == bits_of(joined.select(found.columns))


def bits_of(frame: pl.DataFrame) -> list[tuple[str, pl.DataType, list[Any]]]:
    """The values of each column, floats by their bits; one NaN is as good as another."""

    def bits(value: Any) -> Any:
        return ("nan" if math.isnan(value) else struct.pack("<d", value)) if isinstance(value, float) else value

    return [(column.name, column.dtype, [bits(value) for value in column]) for column in frame]


def forged(lookup: FeatureLookup, place: int, **body: Any) -> FeatureLookup:
    views = list(lookup.views)
    views[place] = msgspec.structs.replace(views[place], body={**views[place].body, **body})
    return msgspec.structs.replace(lookup, views=tuple(views))


def test_a_definition_that_was_changed_is_refused(store: FeatureStore) -> None:
    lookup = store.lookup(SPINE, "flights", "when")
    assert lookup.views[2].digest == digest_of(ASKED)
    changed = forged(lookup, 2, features=[["heat", "temp"], *body_of(ASKED)["features"][1:]])
    with pytest.raises(Corrupt, match="not the one that its digest names"):
        LookupReader(changed)
    with pytest.raises(Corrupt):
        read_lookup(b'{"lookup_format":1,"views":3}')
    with pytest.raises(Invalid, match="form 2"):
        read_lookup(b'{"lookup_format":2}')


def test_a_lookup_from_outside_runs_no_code_and_loads_no_library() -> None:
    from loopwright.core import digest_value

    plugin = '{"Function":{"input":[],"function":{"FfiPlugin":{"lib":"/tmp/x.so","symbol":"s","kwargs":[]}}}}'
    body = {"kind": "request", "features": [["x", plugin]], "description": ""}
    counted = {"kind": "request", "features": [["x", plugin]]}
    digest = digest_value({"name": "evil", **counted})
    view = {"name": "evil", "ref": "feature:evil@1", "digest": digest, "body": body, "columns": [["x", "x"]]}
    data = {"project": "p", "features": ["evil"], "timestamp": "t", "views": [view], "request": [], "lookup_format": 1}
    with pytest.raises(Invalid, match="cannot be kept"):
        LookupReader(read_lookup(msgspec.json.encode(data)))
    with pytest.raises(Corrupt, match="no column type"):
        LookupReader(read_lookup(msgspec.json.encode({**data, "views": [], "request": [["x", "read_csv"]]})))


def test_defaults_are_of_the_view_and_change_its_digest_only_where_they_are_given() -> None:
    def view(**more: Any) -> FeatureView:
        return FeatureView("v", Entity("e", ["k"]), "t", "at", ["x"], **more)

    assert "defaults" not in body_of(view())
    assert len({digest_of(view()), digest_of(view(defaults={"x": 1})), digest_of(view(required=True))}) == 3
    with pytest.raises(Invalid, match="default for 'y'"):
        view(defaults={"y": 1})
