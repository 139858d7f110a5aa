"""Recording by itself: trainings of the common libraries leave their params, metrics, tables and models in a run.

Each library is an integration, a plug-in of the group `loopwright.autolog`; the built-in ones use the same door.
"""

from loopwright.track.autolog.calls import Training
from loopwright.track.autolog.contract import AUTOLOG, AutologOptions, Front, Integration, Patches
from loopwright.track.autolog.keras import Keras
from loopwright.track.autolog.lightgbm import LightGBM
from loopwright.track.autolog.lightning import Lightning
from loopwright.track.autolog.logs import TrainingLog
from loopwright.track.autolog.sklearn import ScikitLearn
from loopwright.track.autolog.switch import autolog_off, autolog_on, autologged
from loopwright.track.autolog.torch import Torch
from loopwright.track.autolog.xgboost import XGBoost

__all__ = [
    "AUTOLOG",
    "AutologOptions",
    "Front",
    "Integration",
    "Keras",
    "LightGBM",
    "Lightning",
    "Patches",
    "ScikitLearn",
    "Torch",
    "Training",
    "TrainingLog",
    "XGBoost",
    "autolog_off",
    "autolog_on",
    "autologged",
]
