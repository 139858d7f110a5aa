"""Models: bundles (safe, self-describing, proven), and the registry of names, versions and aliases.

The face is lazy (PEP 562): the inference process takes the predictor from here without loading SQL or data frames.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loopwright.models.adopting import AdoptedName, AdoptedVersion, ModelAdoption
    from loopwright.models.building import build_bundle
    from loopwright.models.bundle import AnyPredictor, Bundle
    from loopwright.models.cache import fetch_bundle
    from loopwright.models.custom import CustomPredictor
    from loopwright.models.formats import FORMATS, Converted, Format
    from loopwright.models.frames import columns_of, predict_frame
    from loopwright.models.isolated.predictor import IsolatedPredictor
    from loopwright.models.isolated.process import Limits
    from loopwright.models.model import (
        DATATYPES,
        BundleManifest,
        Code,
        Input,
        Kind,
        Layout,
        Model,
        ModelPage,
        ModelVersion,
        Output,
        Parity,
        Runner,
        Signature,
        Stage,
        Task,
        VersionPage,
    )
    from loopwright.models.predictor import ModelFailed, Predictor
    from loopwright.models.service import ModelService

_HOMES = {
    "adopting": ("AdoptedName", "AdoptedVersion", "ModelAdoption"),
    "building": ("build_bundle",),
    "bundle": ("AnyPredictor", "Bundle"),
    "cache": ("fetch_bundle",),
    "custom": ("CustomPredictor",),
    "formats": ("FORMATS", "Converted", "Format"),
    "frames": ("columns_of", "predict_frame"),
    "isolated.predictor": ("IsolatedPredictor",),
    "isolated.process": ("Limits",),
    "model": (
        "DATATYPES",
        "BundleManifest",
        "Code",
        "Input",
        "Kind",
        "Layout",
        "Model",
        "ModelPage",
        "ModelVersion",
        "Output",
        "Parity",
        "Runner",
        "Signature",
        "Stage",
        "Task",
        "VersionPage",
    ),
    "predictor": ("ModelFailed", "Predictor"),
    "service": ("ModelService",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "DATATYPES",
    "FORMATS",
    "AdoptedName",
    "AdoptedVersion",
    "AnyPredictor",
    "Bundle",
    "BundleManifest",
    "Code",
    "Converted",
    "CustomPredictor",
    "Format",
    "Input",
    "IsolatedPredictor",
    "Kind",
    "Layout",
    "Limits",
    "Model",
    "ModelAdoption",
    "ModelFailed",
    "ModelPage",
    "ModelService",
    "ModelVersion",
    "Output",
    "Parity",
    "Predictor",
    "Runner",
    "Signature",
    "Stage",
    "Task",
    "VersionPage",
    "build_bundle",
    "columns_of",
    "fetch_bundle",
    "predict_frame",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
