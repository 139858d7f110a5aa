"""A model folder of MLServer: `model-settings.json`, and a runtime around the folder that predicts by itself."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from loopwright.core import check_name
from loopwright.models import DATATYPES, Bundle, Input
from loopwright.models import Output as ModelOutput
from loopwright.serve.edge.exporting import EdgePlan, export_within
from loopwright.serve.edge.hosts.triton import requirements
from loopwright.serve.edge.model import EdgeReport

# Not imported: it needs MLServer, which is not here.
_RUNTIME = Path(__file__).with_name("mlserver_runtime.py")


def export_mlserver(bundle: Bundle, target: Path, plan: EdgePlan, *, name: str, ref: str, digest: str) -> EdgeReport:
    """Write a folder that `mlserver start` serves, with numpy and onnxruntime beside it.

    Args:
        target: a new folder. Where the budget is missed it is not made; see `export_edge`.
        name: the model's name on the wire.

    Raises:
        Invalid: the name is none, and what `export_edge` refuses.
    """
    check_name("model", name)

    def dress(fresh: Path, report: EdgeReport) -> None:
        # Modules are shared by all models of a server, so each of them has one of its own.
        own = hashlib.sha256(f"{name} {report.digest}".encode()).hexdigest()
        module = f"loopwright_{own[:16]}"
        shutil.copyfile(_RUNTIME, fresh / f"{module}.py")
        settings = settings_of(bundle, name, f"{module}.Runtime")
        text = msgspec.json.format(msgspec.json.encode(settings), indent=2)
        (fresh / "model-settings.json").write_bytes(text)
        (fresh / "requirements.txt").write_text(requirements("mlserver"), encoding="utf-8")

    return export_within(bundle, target, plan, "", dress, ref=ref, digest=digest)


def settings_of(bundle: Bundle, name: str, implementation: str) -> dict[str, Any]:
    """What `model-settings.json` says."""
    signature = bundle.signature
    return {
        "name": name,
        "implementation": implementation,
        "platform": "onnxruntime_onnx",
        "parameters": {"uri": "."},
        "inputs": _tensors(signature.inputs),
        "outputs": _tensors(signature.outputs),
    }


def _tensors(items: Iterable[Input | ModelOutput]) -> list[dict[str, Any]]:
    return [{"name": item.name, "datatype": DATATYPES[item.dtype], "shape": [-1, *item.shape]} for item in items]
