"""Raw values as sketches take them: numbers without nulls, or counted texts."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from loopwright.core import Invalid

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LONGEST_TEXT = 200


def splits_into_numbers(values: NDArray[Any] | Sequence[Any]) -> bool:
    """Whether values are numbers or times, rather than texts or truth values. Without any value: numbers."""
    kind = getattr(getattr(values, "dtype", None), "kind", None)
    if kind is not None and kind != "O":
        return str(kind) in "iufmM"
    first = next((value for value in values if value is not None), 0.0)
    return not isinstance(first, str | bytes | bool) and hasattr(first, "__float__")


def numbers_of(values: NDArray[Any] | Sequence[Any]) -> tuple[NDArray[Any], int]:
    """Values as a numeric array without nulls, and how many nulls there were. Times become microseconds since 1970.

    Raises:
        Invalid: a value is no number.
    """
    import numpy as np

    try:
        array = np.asarray(values)
        if array.dtype.kind == "O":
            array = np.array(values, dtype=np.float64)  # None becomes NaN
    except (TypeError, ValueError) as error:
        raise Invalid(f"a value of a numeric column is no number: {error}") from None
    if array.dtype.kind in "mM":
        missing = np.isnat(array)
        unit = "timedelta64[us]" if array.dtype.kind == "m" else "datetime64[us]"
        return array[~missing].astype(unit).astype(np.int64), int(missing.sum())
    if array.dtype.kind == "b":
        return array.astype(np.float64), 0
    if array.dtype.kind not in "iuf":
        raise Invalid(f"values of type {array.dtype} are no numbers")
    if array.dtype.kind != "f":
        return array, 0
    missing = np.isnan(array)
    nulls = int(missing.sum())
    return (array[~missing] if nulls else array), nulls


def count_texts(values: NDArray[Any] | Sequence[Any]) -> tuple[dict[str, int], int]:
    """How often each value occurs, as text, and how many nulls there were."""
    raw = Counter(values.tolist() if hasattr(values, "tolist") else values)
    counts: dict[str, int] = {}
    nulls = 0
    for value, count in raw.items():
        if value is None or value != value:
            nulls += count
        else:
            text = text_of(value)
            counts[text] = counts.get(text, 0) + count
    return counts, nulls


def text_of(value: Any) -> str:
    """A categorical value as text: truth values as `true` and `false`, long texts cut and closed by a digest."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if len(text) <= _LONGEST_TEXT:
        return text
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"{text[:_LONGEST_TEXT]}…{digest}"
