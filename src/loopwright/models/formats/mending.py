"""A mend for the libraries that convert.

skl2onnx (1.20) hands truth values to ONNX where protobuf 7 takes whole numbers only, so that scikit-learn's histogram
gradient boosting could not be converted.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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


def _whole(value: Any) -> Any:
    import numpy as np

    if isinstance(value, list) and any(isinstance(item, bool | np.bool_) for item in value):
        return [int(item) for item in value]
    return value
