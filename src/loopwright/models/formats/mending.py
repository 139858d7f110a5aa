"""Mends for the libraries that convert.

skl2onnx (1.20) hands truth values to ONNX where protobuf 7 takes whole numbers only, so that scikit-learn's histogram
gradient boosting could not be converted. It refuses two parameters at their usual values, which only say in which form
numbers are handed on: `flatten_transform` of a VotingClassifier, and KBinsDiscretizer's sparse columns.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from loopwright.models.formats.text import parts_of

_REFUSED = {
    "VotingClassifier": ("flatten_transform", True, False),
    "KBinsDiscretizer": ("encode", "onehot", "onehot-dense"),
}

_turn = threading.Lock()


@contextmanager
def whole_number_attributes() -> Iterator[None]:
    """Within the block, truth values in the attributes of nodes that skl2onnx makes are written as 0 and 1."""
    from skl2onnx.common import _container

    with _turn:
        make_node = _container.make_node

        def mended(*arguments: Any, **attributes: Any) -> Any:
            return make_node(*arguments, **{name: _whole(value) for name, value in attributes.items()})

        _container.make_node = mended
        try:
            yield
        finally:
            _container.make_node = make_node


def as_converted(model: Any) -> Any:
    """A model with such parameters as skl2onnx takes them; a copy where it has any, the model itself where not."""
    if not any(_is_refused(part) for part in parts_of(model)):
        return model
    changed = copy.deepcopy(model)
    for part in parts_of(changed):
        if _is_refused(part):
            name, _, taken = _REFUSED[type(part).__name__]
            setattr(part, name, taken)
    return changed


def _is_refused(part: Any) -> bool:
    name, usual, _ = _REFUSED.get(type(part).__name__, ("", None, None))
    return bool(name) and getattr(part, name, None) == usual


def _whole(value: Any) -> Any:
    import numpy as np

    if isinstance(value, list) and any(isinstance(item, bool | np.bool_) for item in value):
        return [int(item) for item in value]
    return value
