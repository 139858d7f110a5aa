"""Models in Python whose sources go into bundles."""

from __future__ import annotations

import ctypes
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from loopwright.models import CustomPredictor


class Capped(CustomPredictor):
    """The distance, up to a limit from a file."""

    def load(self, folder: Path) -> None:
        self.limit = float(json.loads((folder / "limits.json").read_text(encoding="utf-8"))["limit"])

    def predict(self, columns: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"value": np.minimum(columns["distance"], self.limit)}


class Named(CustomPredictor):
    """Text in, text out."""

    classes = ("calm", "windy")

    def predict(self, columns: Mapping[str, Any]) -> Mapping[str, Any]:
        wind = np.nan_to_num(columns["wind"])
        score = 1 / (1 + np.exp(10 - wind))
        assert all(value is None or isinstance(value, str) for value in columns["carrier"])
        return {"label": np.where(score > 0.5, "windy", "calm"), "probability": score}


class Mixing(CustomPredictor):
    """Answers each row by its batch."""

    def predict(self, columns: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"value": columns["distance"] - columns["distance"].mean()}


class Misbehaving(CustomPredictor):
    """Does what the first row of `order` says."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def predict(self, columns: Mapping[str, Any]) -> Mapping[str, Any]:
        order, number = columns["order"][0], columns["number"]
        match order:
            case "crash":
                ctypes.string_at(0)
            case "exit":
                os._exit(3)
            case "leave":
                raise SystemExit(0)
            case "hang":
                time.sleep(60)
            case "spin":
                while True:
                    pass
            case "memory":
                while True:
                    self.kept.append(np.ones(4_000_000))
            case "raise":
                raise ValueError("the row is odd\nand so is this line")
            case "short":
                return {"value": number[:-1]}
            case "other":
                return {"another": number}
            case "text":
                return {"value": number.astype(str)}
            case "objects":
                return {"value": number.astype("datetime64[s]")}
            case "pid":
                return {"value": np.full(len(number), float(os.getpid()))}
            case "flood":
                return {"value": np.zeros(4_000_000)}
            case "scratch":
                for count in range(20):
                    Path(f"part{count}").write_bytes(bytes(1_000_000))
        return {"value": number * 2.0}


class Prying(CustomPredictor):
    """Runs what the first row of `order` says, and answers with what came of it."""

    def predict(self, columns: Mapping[str, Any]) -> Mapping[str, Any]:
        order = columns["order"][0]
        try:
            told = repr(eval(order, {"os": os, "Path": Path, "__import__": __import__})) if order else ""
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
        return {"told": np.array([told] * len(columns["order"]), dtype=object)}
