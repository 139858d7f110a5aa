"""Formats: how a trained model becomes an ONNX graph. Each is a plug-in of the group `loopwright.model_formats`."""

from loopwright.models.formats.contract import FORMATS, Converted, Format, convert
from loopwright.models.formats.onnx_file import OnnxFile
from loopwright.models.formats.sklearn import ScikitLearn
from loopwright.models.formats.torch import Torch

__all__ = ["FORMATS", "Converted", "Format", "OnnxFile", "ScikitLearn", "Torch", "convert"]
