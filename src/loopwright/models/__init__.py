"""Models: bundles (safe, self-describing, proven), and the registry of names, versions and aliases.

The face is lazy (PEP 562): the inference process takes the predictor from here without loading SQL or data frames.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loopwright.models.adopting import AdoptedName, AdoptedVersion, ModelAdoption
    from loopwright.models.archive import pack, unpack
    from loopwright.models.building import build_bundle
    from loopwright.models.bundle import AnyPredictor, Bundle
    from loopwright.models.cache import brought_bundle, bundle_in, fetch_bundle, holds_bundle, user_bundles
    from loopwright.models.carrying import check_outsider, export, opened_bundle
    from loopwright.models.custom import CustomPredictor
    from loopwright.models.findings import Finding, Level, Scan
    from loopwright.models.formats import FORMATS, Converted, Format
    from loopwright.models.frames import columns_of, outputs_frame, predict_frame
    from loopwright.models.importing import About, Leave, import_model
    from loopwright.models.inspecting import Inspection, Vouch
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
        Signed,
        Stage,
        Task,
        VersionPage,
    )
    from loopwright.models.outside import inspect_bundle, vouch_for_bundle
    from loopwright.models.predictor import ModelFailed, Predictor
    from loopwright.models.reading import signatures_of, signatures_stamp
    from loopwright.models.rebuilding import rebuild_version
    from loopwright.models.scanning import refuse_code, scan
    from loopwright.models.service import ModelService
    from loopwright.models.signing import (
        Trust,
        check_signed,
        public_key_of,
        sign_folder,
        signatures_in,
        trust_of,
        verify_folder,
    )

_HOMES = {
    "adopting": ("AdoptedName", "AdoptedVersion", "ModelAdoption"),
    "building": ("build_bundle",),
    "bundle": ("AnyPredictor", "Bundle"),
    "cache": ("brought_bundle", "bundle_in", "fetch_bundle", "holds_bundle", "user_bundles"),
    "custom": ("CustomPredictor",),
    "formats": ("FORMATS", "Converted", "Format"),
    "frames": ("columns_of", "outputs_frame", "predict_frame"),
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
        "Signed",
        "Stage",
        "Task",
        "VersionPage",
    ),
    "predictor": ("ModelFailed", "Predictor"),
    "archive": ("pack", "unpack"),
    "carrying": ("check_outsider", "export", "opened_bundle"),
    "findings": ("Finding", "Level", "Scan"),
    "importing": ("About", "Leave", "import_model"),
    "inspecting": ("Inspection", "Vouch"),
    "scanning": ("refuse_code", "scan"),
    "signing": ("Trust", "check_signed", "public_key_of", "sign_folder", "signatures_in", "trust_of", "verify_folder"),
    "outside": ("inspect_bundle", "vouch_for_bundle"),
    "reading": ("signatures_of", "signatures_stamp"),
    "rebuilding": ("rebuild_version",),
    "service": ("ModelService",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "DATATYPES",
    "FORMATS",
    "About",
    "AdoptedName",
    "AdoptedVersion",
    "AnyPredictor",
    "Bundle",
    "BundleManifest",
    "Code",
    "Converted",
    "CustomPredictor",
    "Finding",
    "Format",
    "Input",
    "Inspection",
    "IsolatedPredictor",
    "Kind",
    "Layout",
    "Leave",
    "Level",
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
    "Scan",
    "Signature",
    "Signed",
    "Stage",
    "Task",
    "Trust",
    "VersionPage",
    "Vouch",
    "brought_bundle",
    "build_bundle",
    "bundle_in",
    "check_outsider",
    "check_signed",
    "columns_of",
    "export",
    "fetch_bundle",
    "holds_bundle",
    "import_model",
    "inspect_bundle",
    "opened_bundle",
    "outputs_frame",
    "pack",
    "predict_frame",
    "public_key_of",
    "rebuild_version",
    "refuse_code",
    "scan",
    "sign_folder",
    "signatures_in",
    "signatures_of",
    "signatures_stamp",
    "trust_of",
    "unpack",
    "user_bundles",
    "verify_folder",
    "vouch_for_bundle",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
