"""Between the data plane's values and a worker's: checked on the way in, and again on the way out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from loopwright.core import DType, Invalid
from loopwright.models.model import BundleManifest, Input, Signature
from loopwright.models.predictor import ModelFailed

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

_NUMPY = {DType.BOOL: "bool", DType.INT64: "int64", DType.FLOAT32: "float32", DType.FLOAT64: "float64"}


def checked_columns(signature: Signature, columns: Mapping[str, Array]) -> dict[str, Array]:
    """The inputs in the signature's order and types.

    Raises:
        Invalid: one is missing, unknown, of another length or shape, or holds values of another type.
    """
    import numpy as np

    missing = [name for name in signature.names if name not in columns]
    extra = [name for name in columns if name not in signature.names]
    if missing or extra:
        facts = [f"missing: {', '.join(missing)}"] if missing else []
        facts += [f"unknown: {', '.join(extra)}"] if extra else []
        raise Invalid(
            f"the inputs do not fit ({'; '.join(facts)})", next_step=f"the model takes {', '.join(signature.names)}"
        )
    given = {item.name: _typed(item, np.asarray(columns[item.name])) for item in signature.inputs}
    if len({len(array) for array in given.values()}) > 1:
        raise Invalid(f"the inputs have different lengths ({', '.join(f'{n}: {len(a)}' for n, a in given.items())})")
    return given


def columns_of_rows(signature: Signature, rows: Sequence[Sequence[Any]]) -> dict[str, Array]:
    """Rows of plain values as columns."""
    import numpy as np

    columns = list(zip(*rows, strict=True)) if rows else [()] * len(signature.inputs)
    found: dict[str, Array] = {}
    for item, values in zip(signature.inputs, columns, strict=True):
        if item.shape or item.dtype is not DType.STRING:
            found[item.name] = np.array(values, dtype=_element(item))
        else:
            found[item.name] = np.array(values, dtype=object)
    return found


def tidied(manifest: BundleManifest, outputs: Mapping[str, Array], rows: int) -> dict[str, Array]:
    """A worker's outputs in the signature's order and types; as they came where the signature names none yet.

    Raises:
        ModelFailed: they are not what the signature promises.
    """
    if not manifest.signature.outputs:
        for name, values in outputs.items():
            _check_rows(name, values, rows)
        return dict(outputs)
    wanted = [item.name for item in manifest.signature.outputs]
    if sorted(outputs) != sorted(wanted):
        raise ModelFailed(f"the model gave {', '.join(outputs)[:200] or 'nothing'}; it promised {', '.join(wanted)}")
    found: dict[str, Array] = {}
    for item in manifest.signature.outputs:
        values = outputs[item.name]
        _check_rows(item.name, values, rows)
        if tuple(values.shape[1:]) != item.shape:
            raise ModelFailed(f"output {item.name!r} has the shape {values.shape[1:]} a row; it promised {item.shape}")
        is_text = values.dtype == object
        if is_text != (item.dtype is DType.STRING):
            raise ModelFailed(f"output {item.name!r} holds {values.dtype}; it promised {item.dtype}")
        found[item.name] = values if is_text else values.astype(_NUMPY[item.dtype], copy=False)
    return found


def _check_rows(name: str, values: Array, rows: int) -> None:
    if values.ndim == 0 or len(values) != rows:
        raise ModelFailed(f"output {name!r} has the shape {values.shape} for {rows} rows")


def _element(item: Input) -> str:
    """Whole numbers and truth values that may be missing travel as float64, which has NaN."""
    if item.dtype is DType.STRING:
        return "object"
    whole = item.dtype in (DType.INT64, DType.BOOL)
    return "float64" if whole and item.nullable else _NUMPY[item.dtype]


def _typed(item: Input, array: Array) -> Array:
    import numpy as np

    try:
        if item.dtype is DType.STRING:
            typed = array.astype(object)
        elif array.dtype.kind in "US":
            raise ValueError(f"{array.dtype} is not a number")
        else:
            typed = np.array(array.tolist() if array.dtype == object else array, dtype=_element(item))
    except (ValueError, TypeError, OverflowError) as error:
        raise Invalid(f"input {item.name!r} takes {item.dtype}: {error}") from None
    if tuple(typed.shape[1:]) != item.shape:
        raise Invalid(f"input {item.name!r} takes {list(item.shape)} values a row, not {list(typed.shape[1:])}")
    return typed
