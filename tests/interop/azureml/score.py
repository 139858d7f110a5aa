"""An entry script as Azure ML's server runs it: the bundle named by the environment answers."""

import json
import os
from pathlib import Path

import numpy as np

from loopwright.models import Bundle

predictor = None


def init() -> None:
    global predictor
    predictor = Bundle(Path(os.environ["AZUREML_MODEL_DIR"])).predictor()


def run(text: str) -> list[dict[str, float]]:
    frame = json.loads(text)["input_data"]
    columns = dict(zip(frame["columns"], zip(*frame["data"], strict=True), strict=True))
    answer = predictor.predict({name: np.array(values, dtype=object) for name, values in columns.items()})
    names = list(answer)
    return [dict(zip(names, row, strict=True)) for row in zip(*(answer[name].tolist() for name in names), strict=True)]
