"""Between data frames and the predictor's arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from loopwright.core import Invalid
from loopwright.models.model import Signature

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from loopwright.models.isolated.predictor import IsolatedPredictor
    from loopwright.models.predictor import Predictor

    Array = np.ndarray[Any, Any]


def columns_of(frame: pl.DataFrame, signature: Signature) -> dict[str, Array]:
    """An array for each input of the signature; a missing number is NaN, a missing string None.

    Raises:
        Invalid: the frame lacks a column.
    """
    missing = [name for name in signature.names if name not in frame.columns]
    if missing:
        raise Invalid(
            f"the rows lack the column(s) {', '.join(missing)}",
            next_step=f"the model takes {', '.join(signature.names)}",
        )
    return {name: array_of(frame[name]) for name in signature.names}


def predict_frame(predictor: Predictor | IsolatedPredictor, frame: pl.DataFrame) -> pl.DataFrame:
    """The model's outputs for a frame, a column per output.

    Raises:
        Invalid: the frame does not fit the signature.
    """
    return outputs_frame(predictor.predict(columns_of(frame, predictor.signature)))


def outputs_frame(outputs: Mapping[str, Array]) -> pl.DataFrame:
    """Outputs as a frame; one with several values a row becomes a column of lists."""
    import polars as pl

    return pl.DataFrame({name: values if values.ndim == 1 else values.tolist() for name, values in outputs.items()})


def array_of(column: pl.Series) -> Array:
    """A column as an array, lists as further axes; a missing number or truth value is NaN, a missing string None."""
    import numpy as np
    import polars as pl

    if column.dtype.is_numeric():
        return (column.cast(pl.Float64) if column.null_count() or column.dtype.is_decimal() else column).to_numpy()
    if column.dtype == pl.Boolean:
        return (column.cast(pl.Float64) if column.null_count() else column).to_numpy()
    if isinstance(column.dtype, pl.Array | pl.List):
        return np.array(column.to_list())
    return np.array(column.cast(pl.String).to_list(), dtype=object)
