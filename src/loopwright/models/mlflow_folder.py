"""Folders as MLflow's `save_model` makes them: read by their `MLmodel`, without MLflow and without unpickling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from loopwright.core import Invalid, check_path
from loopwright.models.pickle_marks import is_pickle
from loopwright.models.saved_model import is_saved_model

MLMODEL = "MLmodel"
_MAX_BYTES = 4 << 20
_FILES = {
    "onnx": ("data",),
    "lightgbm": ("data",),
    "xgboost": ("data",),
    "catboost": ("data",),
    "tensorflow": ("saved_model_dir",),
    "sklearn": ("pickled_model", "model_path"),
}
"""The flavours whose file a library opens without running it, and where MLmodel names that file."""


def is_mlflow(path: Path) -> bool:
    """Whether a path is a folder of MLflow's."""
    return (path / MLMODEL).is_file()


def flavours_of(folder: Path) -> Mapping[str, Mapping[str, Any]]:
    """What MLmodel says of each flavour.

    Raises:
        Invalid: MLmodel is damaged.
    """
    path = folder / MLMODEL
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise Invalid(f"{path} is larger than {_MAX_BYTES} bytes")
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
        flavours = told["flavors"]
        return {str(name): item for name, item in flavours.items() if isinstance(item, Mapping)}
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise Invalid(f"{path} is no description of a model: {str(error).splitlines()[0][:200]}") from None


def native_of(folder: Path, open_file: Callable[[Path, str], Any]) -> Any:
    """The model of the first flavour whose file can be opened without running code.

    Raises:
        Invalid: there is none: each is a pickle, or Python.
    """
    found = native_file(folder)
    if found is None:
        raise Invalid(
            f"the folder has the flavours {', '.join(flavours_of(folder))}, and none of them can be opened without "
            "running code",
            next_step="say allow_pickle=True to have it converted in a confined process, or allow_code=True as well to "
            "keep it as it is and have a confined process answer",
        )
    return open_file(*found)


def native_file(folder: Path) -> tuple[Path, str] | None:
    """That flavour's file, and the class that holds it; None where there is none."""
    flavours = flavours_of(folder)
    for name, keys in _FILES.items():
        for key in keys:
            said = flavours.get(name, {}).get(key)
            path = folder / check_path(str(said)) if said else folder
            if is_saved_model(path) or (path.is_file() and (path.suffix == ".skops" or not is_pickle(path))):
                return path, str(flavours[name].get("model_class") or flavours[name].get("model_type") or "")
    return None


def pickle_of(folder: Path) -> Path | None:
    """The pickle of a scikit-learn or LightGBM model, or XGBoost's; None where there is none."""
    flavours = flavours_of(folder)
    for name, keys in _FILES.items():
        for key in keys:
            said = flavours.get(name, {}).get(key)
            if said and (folder / check_path(str(said))).is_file():
                return folder / str(said)
    return None
