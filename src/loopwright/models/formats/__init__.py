"""Formats: how a trained model becomes an ONNX graph. Each is a plug-in of the group `loopwright.model_formats`."""

from loopwright.models.formats.catboost import CatBoost
from loopwright.models.formats.contract import FORMATS, Converted, Format, convert
from loopwright.models.formats.keras import Keras
from loopwright.models.formats.lightgbm_booster import LightGBM
from loopwright.models.formats.onnx_file import OnnxFile
from loopwright.models.formats.saved_model import SavedModel
from loopwright.models.formats.sklearn import ScikitLearn
from loopwright.models.formats.torch import Torch
from loopwright.models.formats.xgboost import XGBoost

__all__ = [
    "FORMATS",
    "CatBoost",
    "Converted",
    "Format",
    "Keras",
    "LightGBM",
    "OnnxFile",
    "SavedModel",
    "ScikitLearn",
    "Torch",
    "XGBoost",
    "convert",
]
