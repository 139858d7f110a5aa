"""How values are written, and where refs lead."""

from datetime import UTC, datetime
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopwright.ui.formats import duration, number, percent, short, short_ref, size, telling
from loopwright.ui.links import page_of, path_to
from loopwright.ui.page import _embedded

THIN = "\u2009"
RUN = "0197" + "a" * 28


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, "–"),
        (True, "yes"),
        (0, "0"),
        (1234567, f"1{THIN}234{THIN}567"),
        (0.123456, "0.1235"),
        (12.0, "12"),
        (123456.7, f"123{THIN}457"),
        (1e-9, "1e-09"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        ("text", "text"),
    ],
)
def test_numbers(value: object, written: str) -> None:
    assert number(value) == written


@given(st.one_of(st.floats(), st.integers(), st.booleans(), st.none(), st.text()))
def test_every_value_can_be_written(value: object) -> None:
    assert isinstance(number(value), str)


@pytest.mark.parametrize(
    ("value", "written"), [(None, "–"), (0.05, f"5{THIN}%"), (1, f"100{THIN}%"), (0.123, f"12.3{THIN}%")]
)
def test_shares(value: float | None, written: str) -> None:
    assert percent(value) == written


@pytest.mark.parametrize(
    ("value", "written"), [(None, "–"), (0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 40, "5.0 TiB")]
)
def test_sizes(value: int | None, written: str) -> None:
    assert size(value) == written


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (None, "–"),
        (0.0125, "12 ms"),
        (2.5, "2.5 s"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (86_400 * 14, "14 d"),
        (90_000, "1 d 1 h"),
    ],
)
def test_spans(seconds: float | None, written: str) -> None:
    assert duration(seconds) == written


def test_ids_and_digests_are_shortened_and_names_are_not() -> None:
    assert short("a" * 64) == "a" * 12
    assert short(RUN) == "0197aaaa…aaaa"
    assert short_ref(f"run:{RUN}") == "run:0197aaaa…aaaa"
    assert short_ref("dataset:flights@12") == "dataset:flights@12"


@pytest.mark.parametrize(
    ("ref", "page"),
    [
        ("dataset:flights@12", "/p/default/datasets/flights/12"),
        ("dataset:flights", "/p/default/datasets/flights"),
        ("model:delay@champion", "/p/default/models/delay/champion"),
        ("feature:weather@3", "/p/default/features/weather"),
        (f"run:{RUN}", f"/p/default/runs/{RUN}"),
        ("code:" + "a" * 64, "/p/default/lineage?ref=code%3A" + "a" * 64),
        ("nonsense", ""),
        ("javascript:alert(1)", ""),
        ("dataset:<script>", ""),
        ("", ""),
    ],
)
def test_a_ref_leads_to_its_page_and_nonsense_nowhere(ref: str, page: str) -> None:
    assert page_of("default", ref) == page


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_name_leaves_its_place_in_a_path(project: str, name: str) -> None:
    path = path_to(project, "models", name, ref=name)
    assert path.split("?")[0].count("/") == 4
    assert set(path) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/%?=&+-_.~")


@pytest.mark.slow
@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_json_inside_a_page_can_end_no_element_and_says_the_same(value: object) -> None:
    text = str(_embedded(value))
    assert not set(text) & set("<>&\u2028")
    assert msgspec.json.decode(text) == value


@pytest.mark.slow
@pytest.mark.parametrize(
    ("evidence", "told"),
    [
        ({"reason": "certainly worse", "n": 4}, "certainly worse"),
        ({"summary": "drifted"}, "drifted"),
        ({"before": {"model:d@1": 1.0}, "after": {"model:d@2": 1.0}}, f"d@1 100{THIN}% → d@2 100{THIN}%"),
        ({"before": {}, "after": {"model:d@2": 0.5}}, f"nothing → d@2 50{THIN}%"),
        ({"rows": 1200, "nested": {"x": 1}}, f"rows 1{THIN}200"),
        ({}, ""),
        ({"reason": "x" * 500}, "x" * 219 + "…"),
    ],
)
def test_an_event_is_told_in_a_line(evidence: dict[str, object], told: str) -> None:
    assert telling(SimpleNamespace(evidence=evidence, at=datetime.now(UTC))) == told
