"""Codecs for models: LightGBM's own text, ONNX, and scikit-learn estimators through skops, which loads no code.

skops writes memory addresses and the time of day into its archive. Both are replaced here (addresses by running
numbers, times by a constant), so that the same model gives the same bytes.
"""

from __future__ import annotations

import io
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from loopwright.core import Forbidden, Invalid
from loopwright.pipeline.codecs.registry import codec, is_from

_SCHEMA = "schema.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_TRUSTED = ("sklearn", "lightgbm", "xgboost", "numpy", "scipy")
_TRUSTED_STANDARD = frozenset({"collections.OrderedDict", "collections.defaultdict", "collections.Counter"})


@codec("lightgbm")
class BoosterCodec:
    """A LightGBM Booster in LightGBM's text format."""

    def accepts(self, value: Any) -> bool:
        return is_from(value, "lightgbm", "Booster")

    def save(self, value: Any, path: Path) -> None:
        path.write_text(value.model_to_string(num_iteration=-1), encoding="utf-8")

    def load(self, path: Path) -> Any:
        import lightgbm

        return lightgbm.Booster(model_str=path.read_text(encoding="utf-8"))


@codec("onnx")
class OnnxCodec:
    """An ONNX ModelProto."""

    def accepts(self, value: Any) -> bool:
        return is_from(value, "onnx", "ModelProto")

    def save(self, value: Any, path: Path) -> None:
        path.write_bytes(value.SerializeToString(deterministic=True))

    def load(self, path: Path) -> Any:
        import onnx

        return onnx.load_from_string(path.read_bytes())


@codec("skops")
class SkopsCodec:
    """A scikit-learn estimator, or one that follows its interface. Types from outside known libraries and the project
    are refused on reading."""

    def accepts(self, value: Any) -> bool:
        return is_from(value, "sklearn", "BaseEstimator")

    def save(self, value: Any, path: Path) -> None:
        skops = _skops()
        try:
            archive = skops.dumps(value)
        except (skops.exceptions.UnsupportedTypeException, TypeError) as error:
            raise Invalid(
                f"this {type(value).__name__} cannot be kept without pickle: {error}",
                next_step="return its parts, or a model in ONNX",
            ) from None
        path.write_bytes(without_accidents(archive))

    def load(self, path: Path) -> Any:
        skops = _skops()
        data = path.read_bytes()
        unknown = skops.get_untrusted_types(data=data)
        refused = [name for name in unknown if not _is_trusted(name)]
        if refused:
            raise Forbidden(
                f"the model holds types that are not trusted: {', '.join(refused)}",
                next_step="define them in the project, or keep the model as ONNX",
            )
        return skops.loads(data, trusted=unknown)


def without_accidents(archive: bytes) -> bytes:
    """The same skops archive with addresses and times replaced by constants."""
    with ZipFile(io.BytesIO(archive)) as source:
        numbers = _Numbers()
        schema = numbers.renumbered(json.loads(source.read(_SCHEMA)))
        members = {numbers.files.get(name, name): source.read(name) for name in source.namelist() if name != _SCHEMA}
    members[_SCHEMA] = json.dumps(schema).encode()
    target = io.BytesIO()
    with ZipFile(target, "w", ZIP_DEFLATED, compresslevel=1) as file:
        for name in sorted(members):
            info = ZipInfo(name, _EPOCH)
            info.compress_type = ZIP_DEFLATED
            file.writestr(info, members[name])
    return target.getvalue()


class _Numbers:
    """Gives each address and file of a skops schema a number, in the order in which they appear."""

    def __init__(self) -> None:
        self.ids: dict[int, int] = {}
        self.files: dict[str, str] = {}

    def renumbered(self, node: Any) -> Any:
        if isinstance(node, list):
            return [self.renumbered(item) for item in node]
        if not isinstance(node, dict):
            return node
        found = {key: self.renumbered(item) for key, item in node.items()}
        if isinstance(found.get("__id__"), int):
            found["__id__"] = self.ids.setdefault(found["__id__"], len(self.ids) + 1)
        if "__loader__" in found and isinstance(found.get("file"), str):
            suffix = Path(found["file"]).suffix
            found["file"] = self.files.setdefault(found["file"], f"{len(self.files) + 1}{suffix}")
        return found


def _skops() -> Any:
    """skops has no types; its exceptions are not imported with it."""
    import_module("skops.io.exceptions")
    return import_module("skops.io")


def _is_trusted(name: str) -> bool:
    """Classes of known libraries, and whatever the project defines: its code runs in this process anyway."""
    module, _, attribute = name.rpartition(".")
    if name in _TRUSTED_STANDARD:
        return True
    if name.split(".", 1)[0] in _TRUSTED:
        return isinstance(_resolved(module, attribute), type)
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    is_installed = "site-packages" in file or "dist-packages" in file
    return bool(file) and not is_installed and name.split(".", 1)[0] not in sys.stdlib_module_names


def _resolved(module: str, attribute: str) -> Any:
    try:
        return getattr(import_module(module), attribute, None)
    except ImportError:
        return None
