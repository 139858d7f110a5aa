"""Models that come as files: opened by the library that wrote them, where that runs none of the file's code.

A pickle, and a folder that holds nothing but one, is never opened here. What a library reads in C++ (LightGBM, XGBoost,
CatBoost), or what is a program (TensorFlow), is opened here in a confined process only: see `converting`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from loopwright.core import Invalid, NotFound
from loopwright.models.formats.catboost import has_log_scale
from loopwright.models.mlflow_folder import is_mlflow, native_of
from loopwright.models.pickle_marks import is_pickle
from loopwright.models.saved_model import is_saved_model


def opened(model: Any) -> Any:
    """The model in a file or folder; an ONNX file stays a path, and what is no path is given back as it is.

    Raises:
        NotFound: there is no such file.
        Invalid: it is of no known kind, is a pickle, or its library is not installed.
    """
    if not isinstance(model, str | Path):
        return model
    path = Path(model)
    if is_mlflow(path):
        return native_of(path, opened_file)
    return opened_file(path)


def opened_file(path: Path, class_name: str = "") -> Any:
    """The model in a file; `class_name` says which of its library's classes holds it, where that is known.

    Raises:
        NotFound, Invalid: as `opened`.
    """
    if path.suffix == ".onnx":
        return path
    if is_saved_model(path):
        from loopwright.models.formats.saved_model import SavedModelFolder

        return SavedModelFolder(path)
    if not path.is_file():
        raise _nothing_at(path)
    opener = _opener_of(path)
    if opener is None:
        raise _unknown(path)
    try:
        return opener(path, class_name)
    except ImportError as error:
        raise Invalid(
            f"opening {path.name} needs the package {error.name!r}, which is not installed",
            next_step=f"pip install {error.name}",
        ) from error


def needs_confinement(path: Path) -> bool:
    """Whether reading a model can crash the process, or run what it says, although it is no pickle."""
    return is_saved_model(path) or (path.is_file() and _opener_of(path) in (_lightgbm, _xgboost, _catboost))


def _opener_of(path: Path) -> Callable[[Path, str], Any] | None:
    """What opens a file, by its first bytes, else by its ending; None where neither is known."""
    with path.open("rb") as stream:
        head = stream.read(5)
    marked = _lightgbm if head == b"tree\n" else _catboost if head.startswith(b"CBM1") else None
    return marked or _OPENERS.get(path.suffix.lower())


def _nothing_at(path: Path) -> NotFound | Invalid:
    if not path.is_dir():
        return NotFound(f"there is no model file {path}", next_step="check the path")
    endings = {".onnx", *_OPENERS} - {".json"}  # what is called so is mostly something else
    inside = [item.name for item in sorted(path.iterdir()) if item.suffix.lower() in endings]
    return Invalid(
        f"the folder {path} holds no model that is known",
        next_step=f"name the file itself: {path / inside[0]}"
        if inside
        else "known folders: a bundle, MLflow's (MLmodel), TensorFlow's SavedModel (saved_model.pb), Hugging Face's "
        "(config.json and .safetensors)",
    )


def _unknown(path: Path) -> Invalid:
    if is_pickle(path):
        return Invalid(
            f"{path.name} is a pickle: loading it runs whatever its maker put there",
            next_step="save the model in its library's own format or by skops, or say allow_pickle=True",
        )
    return Invalid(
        f"{path.name} is no model file that is known",
        next_step=f"known endings: .onnx, {', '.join(sorted(_OPENERS))}",
    )


def _skops(path: Path, _: str) -> Any:
    import skops.io

    return skops.io.load(path)


def _lightgbm(path: Path, _: str) -> Any:
    import lightgbm

    try:
        return lightgbm.Booster(model_file=str(path))
    except lightgbm.basic.LightGBMError as error:
        raise Invalid(f"LightGBM cannot read {path.name}: {str(error).splitlines()[0]}") from error


def _xgboost(path: Path, class_name: str) -> Any:
    import xgboost

    name = class_name.rpartition(".")[2]
    kind = getattr(xgboost, name, None) if name.startswith("XGB") else None
    model = (kind or xgboost.Booster)()
    try:
        model.load_model(str(path))
    except (xgboost.core.XGBoostError, TypeError) as error:
        raise Invalid(f"XGBoost cannot read {path.name}: {str(error).strip().splitlines()[0][:200]}") from error
    return model


def _catboost(path: Path, class_name: str) -> Any:
    import catboost

    name = class_name.rpartition(".")[2]
    kind = {"CatBoostClassifier": catboost.CatBoostClassifier, "CatBoostRegressor": catboost.CatBoostRegressor}.get(
        name
    )
    try:
        model = (kind or catboost.CatBoost)().load_model(str(path))
        is_bare = kind is None and has_log_scale(model)  # no file says which class wrote it: a regressor, mostly
        return catboost.CatBoostRegressor().load_model(str(path)) if is_bare else model
    except catboost.CatBoostError as error:
        raise Invalid(f"CatBoost cannot read {path.name}: {str(error).splitlines()[0][:200]}") from error


def _keras(path: Path, _: str) -> Any:
    import keras

    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except ValueError as error:
        raise Invalid(f"Keras cannot read {path.name}: {str(error).strip().splitlines()[0][:300]}") from error


_OPENERS: dict[str, Callable[[Path, str], Any]] = {
    ".skops": _skops,
    ".lgb": _lightgbm,
    ".lightgbm": _lightgbm,
    ".ubj": _xgboost,
    ".json": _xgboost,
    ".xgb": _xgboost,
    ".cbm": _catboost,
    ".cb": _catboost,
    ".keras": _keras,
}
