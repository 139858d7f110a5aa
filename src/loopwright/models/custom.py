"""The class that a team writes when its model is Python and not a graph.

    from pathlib import Path
    import json
    import numpy as np
    from loopwright.models import CustomPredictor

    class Bands(CustomPredictor):
        def load(self, folder: Path) -> None:
            self.limit = json.loads((folder / "limits.json").read_text())["limit"]

        def predict(self, columns):
            return {"value": np.minimum(columns["distance"], self.limit)}

    bundle = build_bundle(Bands, sample, task="regression", files="bands/")

Its source file goes into the bundle. No server imports it: a worker process of its own does (see `isolated`), without
the server's environment, network, or any way to write but into a scratch folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


class CustomPredictor:
    """A model in Python. Made without arguments, loaded once, then asked for one batch at a time."""

    def load(self, folder: Path) -> None:
        """Read what the model needs. Called once, before any prediction.

        Args:
            folder: the files that were given to `build_bundle(files=...)`; read-only, and empty where none were given.
        """

    def predict(self, columns: Mapping[str, Array]) -> Mapping[str, Array]:
        """Answer rows.

        Args:
            columns: an array for each input of the signature, all of one length, in the signature's type; a missing
                number is NaN, a missing string None.

        Returns:
            an array per output with a row per row. A `binary` model gives `label` and `probability`, a `multiclass`
            one `label` and `probabilities`, a `regression` `value`; any other gives what it likes. A row's answer may
            not depend on the other rows: a server batches rows of many requests.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it predicts")
