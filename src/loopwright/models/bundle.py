"""Bundles: a model as immutable bytes, in a folder.

bundle.json      the manifest: signature, parity, digests of the other files
model.onnx       the graph; where the model is Python, in its place:
  code/          its source, imported by a worker process alone
  files/         what it loads
profile.sketch   the profile of the training data's columns (stats.TableSketch)
outputs.sketch   the profile of the model's answers on the sample
environment.txt  the interpreter and libraries it was made with
example.json     one row as a V2 request
features.json    where there is one: how a server finds inputs by an entity's key (features.FeatureLookup)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core import Corrupt, check_path, digest_file
from loopwright.models.isolated.predictor import IsolatedPredictor
from loopwright.models.isolated.process import Limits
from loopwright.models.model import BundleManifest, Signature
from loopwright.models.predictor import MANIFEST_FILE, Predictor, read_manifest, read_verified
from loopwright.models.signing import belongs

if TYPE_CHECKING:
    from loopwright.features import FeatureLookup
    from loopwright.stats import TableSketch

AnyPredictor = Predictor | IsolatedPredictor
PROFILE_FILE = "profile.sketch"
OUTPUTS_FILE = "outputs.sketch"
ENVIRONMENT_FILE = "environment.txt"
EXAMPLE_FILE = "example.json"
FEATURES_FILE = "features.json"


class Bundle:
    """A bundle in a folder. Reading one never runs anything that it holds."""

    def __init__(self, folder: Path) -> None:
        """Raises:
        NotFound: the folder holds no bundle.
        Corrupt: its manifest is damaged.
        Invalid: its manifest names a file outside the folder, or is of a newer form.
        """
        self.folder = Path(folder)
        self.manifest: BundleManifest = read_manifest(self.folder)
        for name in self.manifest.files:
            check_path(name)

    @property
    def signature(self) -> Signature:
        """What the model takes and gives."""
        return self.manifest.signature

    @property
    def size_bytes(self) -> int:
        """The size of all of its files."""
        return sum((self.folder / name).stat().st_size for name in (MANIFEST_FILE, *self.manifest.files))

    def predictor(self, threads: int = 1, limits: Limits | None = None) -> AnyPredictor:
        """The model, loaded and verified: a graph in this process, Python in a worker process of its own.

        Args:
            threads: how many threads one prediction may use.
            limits: what a worker may use, in place of what the bundle says; a graph has none.

        Raises:
            Corrupt: a file is not the one that was built.
            ModelFailed: the model's Python cannot be loaded.
        """
        if self.manifest.executes_code:
            return IsolatedPredictor.load(self.folder, self.manifest, threads, limits)
        return Predictor.load(self.folder, threads)

    def profile(self) -> TableSketch:
        """The profile of the data that the model was trained on."""
        return self._sketch(PROFILE_FILE)

    def output_profile(self) -> TableSketch:
        """The profile of the model's answers on the sample it was built with."""
        return self._sketch(OUTPUTS_FILE)

    def lookup(self) -> FeatureLookup | None:
        """How a server finds inputs by an entity's key, where the model was trained on applied features.

        Raises:
            Corrupt: the file is not the one that was built.
        """
        if FEATURES_FILE not in self.manifest.files:
            return None
        from loopwright.features import read_lookup

        return read_lookup(read_verified(self.folder, self.manifest, FEATURES_FILE))

    def example_row(self) -> list[Any]:
        """The example's values in the order of the signature; lists within lists where an input has a shape."""
        request = msgspec.json.decode(read_verified(self.folder, self.manifest, EXAMPLE_FILE))
        pairs = zip(self.signature.inputs, request["inputs"], strict=True)
        return [_folded(tensor["data"], item.shape) if item.shape else tensor["data"][0] for item, tensor in pairs]

    def verify(self) -> None:
        """Read every file and compare it with the manifest; the folder of an exported bundle's signatures is no part.

        Raises:
            Corrupt: a file is changed, missing, or not named by the manifest.
        """
        for name, digest in self.manifest.files.items():
            path = self.folder / name
            if not path.is_file() or not belongs(name):
                raise Corrupt(f"the bundle lacks its file {name!r}", where=str(self.folder))
            if digest_file(path) != digest:
                raise Corrupt(
                    f"the bundle's file {name!r} is not what was built",
                    where=str(self.folder),
                    next_step="fetch the bundle again, or build it anew",
                )
        known = {MANIFEST_FILE, *self.manifest.files}
        strange = sorted(
            path.relative_to(self.folder).as_posix()
            for path in self.folder.rglob("*")
            if (path.is_file() or path.is_symlink()) and path.relative_to(self.folder).as_posix() not in known
        )
        strange = [name for name in strange if belongs(name)]
        if strange:
            raise Corrupt(
                f"the bundle holds {', '.join(strange)}, which its manifest does not name", where=str(self.folder)
            )

    def _sketch(self, name: str) -> TableSketch:
        from loopwright.stats import TableSketch

        return TableSketch.from_bytes(read_verified(self.folder, self.manifest, name))


def _folded(values: list[Any], shape: tuple[int, ...]) -> list[Any]:
    """A flat list as lists within lists."""
    for size in reversed(shape[1:]):
        values = [values[start : start + size] for start in range(0, len(values), size)]
    return values
