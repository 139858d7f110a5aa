"""Codecs for tables and arrays: Parquet, and NumPy's own format without objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loopwright.core import Invalid
from loopwright.pipeline.codecs.registry import codec, is_from


@codec("polars")
class PolarsCodec:
    """A Polars DataFrame as Parquet."""

    def accepts(self, value: Any) -> bool:
        return is_from(value, "polars", "DataFrame")

    def save(self, value: Any, path: Path) -> None:
        import polars as pl

        try:
            value.write_parquet(path, compression="zstd", compression_level=1, statistics=True)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise Invalid(f"the table cannot be kept: {error}", next_step="cast its object columns") from None

    def load(self, path: Path) -> Any:
        import polars as pl

        return pl.read_parquet(path, glob=False)


@codec("polars-lazy")
class PolarsLazyCodec:
    """A Polars LazyFrame: computed into Parquet in bounded memory, and read back lazily."""

    def accepts(self, value: Any) -> bool:
        return is_from(value, "polars", "LazyFrame")

    def save(self, value: Any, path: Path) -> None:
        value.sink_parquet(path, compression="zstd", compression_level=1, maintain_order=True)

    def load(self, path: Path) -> Any:
        import polars as pl

        return pl.scan_parquet(path, glob=False)


@codec("polars-series")
class PolarsSeriesCodec:
    """A Polars Series as Parquet of one column."""

    def accepts(self, value: Any) -> bool:
        return is_from(value, "polars", "Series")

    def save(self, value: Any, path: Path) -> None:
        PolarsCodec().save(value.to_frame(), path)

    def load(self, path: Path) -> Any:
        return PolarsCodec().load(path).to_series()


@codec("arrow")
class ArrowCodec:
    """An Arrow Table as Parquet."""

    def accepts(self, value: Any) -> bool:
        return is_from(value, "pyarrow", "Table")

    def save(self, value: Any, path: Path) -> None:
        import pyarrow.parquet as parquet

        parquet.write_table(value, path, compression="zstd")

    def load(self, path: Path) -> Any:
        import pyarrow.parquet as parquet

        return parquet.ParquetFile(path).read()


@codec("pandas")
class PandasCodec:
    """A pandas DataFrame as Parquet, with its index."""

    def accepts(self, value: Any) -> bool:
        return is_from(value, "pandas", "DataFrame")

    def save(self, value: Any, path: Path) -> None:
        value.to_parquet(path, engine="pyarrow", compression="zstd")

    def load(self, path: Path) -> Any:
        import pandas as pd

        return pd.read_parquet(path, engine="pyarrow")


@codec("pandas-series")
class PandasSeriesCodec:
    """A pandas Series as Parquet of one column, with its index and its name."""

    def accepts(self, value: Any) -> bool:
        return is_from(value, "pandas", "Series")

    def save(self, value: Any, path: Path) -> None:
        PandasCodec().save(value.to_frame(_UNNAMED if value.name is None else str(value.name)), path)

    def load(self, path: Path) -> Any:
        series = PandasCodec().load(path).iloc[:, 0]
        return series.rename(None) if series.name == _UNNAMED else series


@codec("numpy")
class NumpyCodec:
    """A NumPy array or scalar in the `.npy` format; arrays of Python objects are refused."""

    def accepts(self, value: Any) -> bool:
        return is_from(value, "numpy", "ndarray", "generic")

    def save(self, value: Any, path: Path) -> None:
        import numpy as np

        array = np.asarray(value)
        if array.dtype.hasobject:
            raise Invalid("an array of Python objects cannot be kept", next_step="give it a number or text type")
        with path.open("wb") as file:
            np.save(file, array, allow_pickle=False)

    def load(self, path: Path) -> Any:
        import numpy as np

        with path.open("rb") as file:
            array = np.load(file, allow_pickle=False)
        return array[()] if array.ndim == 0 else array


_UNNAMED = "__unnamed__"
