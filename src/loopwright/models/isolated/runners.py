"""What a worker runs. Imported in the worker process alone, after it has confined itself."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from loopwright.models.custom import CustomPredictor
from loopwright.models.model import Runner

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

CODE_FOLDER = "code"
FILES_FOLDER = "files"


class Running(Protocol):
    """A loaded model."""

    def predict(self, columns: Mapping[str, Array]) -> Mapping[str, Array]:
        """The outputs for rows given by column."""
        ...


def open_runner(runner: str, entry: str, folder: str) -> Running:
    """Import and load the model of a bundle.

    Raises:
        Exception: whatever the bundle's code raises.
    """
    root = Path(folder)
    sys.path.insert(0, str(root / CODE_FOLDER))
    if runner == Runner.PREDICTOR:
        return _custom(entry, root / FILES_FOLDER)
    if runner == Runner.MLFLOW:
        return _MLflow(root / FILES_FOLDER)
    from loopwright.models.isolated.unpickling import Unpickled

    if runner == Runner.CONVERT:
        return _Converting(root / entry)
    return Unpickled(root / FILES_FOLDER / entry)


def _custom(entry: str, files: Path) -> Running:
    module, _, name = entry.partition(":")
    kind: Any = importlib.import_module(module)
    for part in name.split("."):
        kind = getattr(kind, part)
    if not isinstance(kind, type):
        raise TypeError(f"{entry} is no class")
    model: CustomPredictor = kind()
    if hasattr(model, "load"):
        model.load(files)
    return model


class _MLflow:
    """A folder of MLflow's, as its own `pyfunc` runs it."""

    def __init__(self, folder: Path) -> None:
        import mlflow.pyfunc

        self._model = mlflow.pyfunc.load_model(str(folder))

    def predict(self, columns: Mapping[str, Array]) -> Mapping[str, Array]:
        import numpy as np
        import pandas as pd

        frame = pd.DataFrame({name: _plain(values) for name, values in columns.items()})
        given = self._model.predict(frame)
        if isinstance(given, pd.DataFrame):
            return {str(name): given[name].to_numpy() for name in given.columns}
        if isinstance(given, Mapping):
            return {str(name): np.asarray(values) for name, values in given.items()}
        values = np.asarray(given)
        return {"value": values.reshape(-1) if values.ndim == 2 and values.shape[1] == 1 else values}


class _Converting:
    """A file that becomes a bundle with a graph: the bundle's files are its outputs."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def predict(self, columns: Mapping[str, Array]) -> Mapping[str, Array]:
        import io

        import msgspec
        import numpy as np
        import polars as pl

        from loopwright.core import LoopwrightError
        from loopwright.models.building import build_bundle
        from loopwright.models.converting import REFUSED
        from loopwright.models.isolated.unpickling import unpickled
        from loopwright.stats import TableSketch

        options: dict[str, Any] = msgspec.json.decode(columns["options"][0])
        sample = pl.read_ipc(io.BytesIO(columns["sample"].tobytes()))
        profile = TableSketch.from_bytes(columns["profile"].tobytes())
        try:
            model = unpickled(self._path, str(columns["class_name"][0]))
            bundle = build_bundle(model, sample, profile=profile, **options, folder=Path("bundle").absolute())
        except LoopwrightError as error:
            where = f"{error.where}: " if error.where else ""
            return {REFUSED: np.array([where + error.message, error.next_step], dtype=object)}
        names = ["bundle.json", *bundle.manifest.files]
        return {name: np.frombuffer((bundle.folder / name).read_bytes(), dtype=np.uint8) for name in names}


def _plain(values: Array) -> Any:
    return values if values.ndim == 1 else list(values)
