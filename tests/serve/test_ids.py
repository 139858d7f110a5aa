"""The ids of a run's predictions: the compiled part and the plain way make the same of the same seeds."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from loopwright.core import id_seeds, is_id
from loopwright.serve import ids
from loopwright.serve.ids import Ids


@given(first=st.integers(1 << 52, (1 << 60) - 300), count=st.integers(0, 300), data=st.data())
def test_ids_are_alike_however_they_are_made_and_asked_for(first: int, count: int, data: st.DataObject) -> None:
    random = id_seeds(count)[1] if count > 20 else data.draw(st.binary(min_size=8 * count, max_size=8 * count))
    made = Ids(first, random)
    assert ids._made(first, random) == ids._made_plainly(first, random)
    listed = made.listed(0, count)
    assert all(map(is_id, listed))
    assert "".join(listed) == made.raw.hex()
    assert [made.digits(place).decode() for place in range(count)] == listed
    if count:
        start = data.draw(st.integers(0, count - 1))
        some = data.draw(st.integers(1, count - start))
        assert json.loads(made.json(start, some)) == listed[start : start + some]
