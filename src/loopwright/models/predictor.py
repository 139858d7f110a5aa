"""The predictor: a bundle's graph in memory. NumPy and ONNX Runtime alone; nothing of a bundle is ever executed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core import Corrupt, Invalid, LoopwrightError, NotFound, decode, digest_bytes
from loopwright.models.model import READABLE_FORMATS, BundleManifest, Input, Layout, Signature, seal_of
from loopwright.models.trees import fast_steps, fast_trees

if TYPE_CHECKING:
    import numpy as np
    import onnxruntime

    Array = np.ndarray[Any, Any]

MANIFEST_FILE = "bundle.json"
GRAPH_FILE = "model.onnx"
_ELEMENTS = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(bool)": "bool",
    "tensor(string)": "object",
}


def read_manifest(folder: Path) -> BundleManifest:
    """The manifest of the bundle in a folder.

    Raises:
        NotFound: there is no bundle.
        Corrupt: the manifest is damaged, or was changed after it was written.
        Invalid: it is of a newer form than this program knows.
    """
    path = folder / MANIFEST_FILE
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(
            f"there is no bundle in {folder}", next_step=f"a bundle's folder holds {MANIFEST_FILE}"
        ) from None
    try:
        about = msgspec.json.decode(data, type=dict[str, Any])
        version = about.get("manifest_format")
        if version not in READABLE_FORMATS:
            raise Invalid(
                f"the bundle has manifest format {version}, and this program knows {READABLE_FORMATS[-1]}",
                where=str(path),
                next_step="upgrade Loopwright",
            )
        manifest: BundleManifest = decode(data, BundleManifest)
    except msgspec.MsgspecError as error:
        raise Corrupt(f"the bundle's manifest is damaged: {error}", where=str(path)) from None
    if manifest.seal and manifest.seal != seal_of(about):
        raise Corrupt(
            "the bundle's manifest is not what was built: somebody has changed it",
            where=str(path),
            next_step="fetch the bundle again, or build it anew",
        )
    return manifest


def read_verified(folder: Path, manifest: BundleManifest, name: str) -> bytes:
    """One file of a bundle, if it has the bytes that the manifest promises.

    Raises:
        Corrupt: it has not, or is missing.
    """
    try:
        data = (folder / name).read_bytes()
    except FileNotFoundError:
        raise Corrupt(f"the bundle lacks its file {name!r}", where=str(folder)) from None
    if digest_bytes(data) != manifest.files.get(name):
        raise Corrupt(
            f"the bundle's file {name!r} is not what was built",
            where=str(folder),
            next_step="fetch the bundle again, or build it anew",
        )
    return data


class ModelFailed(LoopwrightError):
    """A model that was loaded cannot answer rows that fit its signature."""


class Predictor:
    """Answers rows. Thread-safe: any number of threads may ask at once.

    `inline` says that a call computes and returns, and so may be made where waiting is not allowed.
    """

    inline = True

    def __init__(self, manifest: BundleManifest, graph: bytes, threads: int = 1) -> None:
        """Args:
        manifest: what the bundle says of itself.
        graph: the ONNX graph's bytes, verified by the caller.
        threads: how many threads one prediction may use.

        Raises:
            Invalid: ONNX Runtime cannot load the graph.
        """
        self.manifest = manifest
        self.signature: Signature = manifest.signature
        self._session = _open_session(graph, threads)
        inputs = {tensor: name for name, tensor in manifest.tensors.items()}
        self._tensors = [
            (inputs.get(item.name, item.name), item.name, _ELEMENTS[item.type], len(item.shape))
            for item in self._session.get_inputs()
        ]
        self._outputs = [item.name for item in self._session.get_outputs()]
        self._groups = _by_element(self._tensors, manifest)
        self._trees = self._steps = None
        if manifest.layout is Layout.MATRIX:
            self._trees = fast_trees(graph, self._session, threads, _open_session)
        if self._trees is None:
            self._steps = fast_steps(graph, self._session, threads, _open_session)

    @classmethod
    def load(cls, folder: Path, threads: int = 1) -> Predictor:
        """The predictor of the bundle in a folder; the graph's digest is verified first.

        Raises:
            NotFound: there is no bundle.
            Corrupt: the graph is not the one that was built.
            Invalid: the bundle is of a newer form, or cannot be loaded.
        """
        manifest = read_manifest(folder)
        return cls(manifest, read_verified(folder, manifest, GRAPH_FILE), threads)

    @property
    def output_names(self) -> list[str]:
        """The names of the outputs, in order."""
        return self._outputs

    def output_types(self) -> dict[str, str]:
        """The element types of the outputs, as ONNX Runtime names them."""
        return {item.name: item.type for item in self._session.get_outputs()}

    def predict(self, columns: Mapping[str, Array]) -> dict[str, Array]:
        """Answer rows given by column.

        Args:
            columns: an array of equal length for each input of the signature; a missing number is NaN, a missing
                string None or "".

        Returns:
            an array per output, with a row per row.

        Raises:
            Invalid: an input is missing, unknown, of another length, or holds values of another type.
            ModelFailed: the model cannot answer.
        """
        import numpy as np

        arrays = [np.asarray(columns[name]) for name in self._check_names(columns)]
        if len({len(array) for array in arrays}) > 1:
            lengths = ", ".join(f"{n}: {len(a)}" for n, a in zip(self.signature.names, arrays, strict=True))
            raise Invalid(f"the inputs have different lengths ({lengths})")
        if self.manifest.layout is Layout.MATRIX:
            _, name, element, _ = self._tensors[0]
            pairs = zip(self.signature.inputs, arrays, strict=True)
            matrix = np.stack([_cast(item, array, element) for item, array in pairs], axis=1)
            return self._answer(name, matrix)
        for item, array in zip(self.signature.inputs, arrays, strict=True):
            _check_shape(item, array)
        given = dict(zip(self.signature.names, zip(self.signature.inputs, arrays, strict=True), strict=True))
        feed = {t: _shaped(_cast(*given[n], element), rank) for n, t, element, rank in self._tensors}
        return self.run(feed)

    def predict_rows(self, rows: Sequence[Sequence[Any]]) -> dict[str, Array]:
        """Answer rows given as sequences of plain values in the order of the signature; None where one is missing.

        The values are trusted to have the signature's types.

        Raises:
            Invalid: a number is out of the range of its type.
            ModelFailed: the model cannot answer.
        """

        if self.manifest.layout is Layout.MATRIX:
            _, name, element, _ = self._tensors[0]
            return self._answer(name, _from_values(rows, element))
        columns = list(zip(*rows, strict=True))
        feed: dict[str, Array] = {}
        for (element, _), group in self._groups.items():
            arrays = _arrays([columns[at] for at, _, _ in group], element)
            for (_, tensor, rank), array in zip(group, arrays, strict=True):
                feed[tensor] = _shaped(array, rank)
        return self.run(feed)

    def predict_matrix(self, matrix: Array) -> dict[str, Array]:
        """Answer rows given as one matrix of float32 [rows, inputs], where the graph takes its inputs so.

        The matrix is trusted to have the signature's width; a missing number is NaN.

        Raises:
            ModelFailed: the model cannot answer.
        """
        return self._answer(self._tensors[0][1], matrix)

    def run(self, feed: dict[str, Array]) -> dict[str, Array]:
        """Run the graph on its own tensors.

        Raises:
            ModelFailed: the graph refuses them.
        """
        found = self._steps.answer(feed) if self._steps is not None else None
        if found is not None:
            return found
        try:
            return dict(zip(self._outputs, self._session.run(self._outputs, feed), strict=True))
        except Exception as error:  # ONNX Runtime raises a class per status, all of them only here
            raise ModelFailed(f"the model failed: {str(error).splitlines()[0][:300]}") from error

    def _answer(self, name: str, matrix: Array) -> dict[str, Array]:
        """Answer a matrix for the graph's only tensor, by compiled trees where it is one."""
        found = self._trees.answer(matrix) if self._trees is not None else None
        return self.run({name: matrix}) if found is None else found

    def _check_names(self, columns: Mapping[str, Array]) -> tuple[str, ...]:
        names = self.signature.names
        missing = [name for name in names if name not in columns]
        extra = [name for name in columns if name not in names]
        if missing or extra:
            facts = [f"missing: {', '.join(missing)}"] if missing else []
            facts += [f"unknown: {', '.join(extra)}"] if extra else []
            raise Invalid(
                f"the inputs do not fit ({'; '.join(facts)})", next_step=f"the model takes {', '.join(names)}"
            )
        return names


def _open_session(graph: bytes, threads: int) -> onnxruntime.InferenceSession:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises a class per status, all of them only here
        raise Invalid(f"ONNX Runtime cannot load the graph: {str(error).splitlines()[0][:300]}") from error


def _cast(item: Input, array: Array, element: str) -> Array:
    import numpy as np

    if element == "object":
        return np.array(["" if value is None else str(value) for value in array.tolist()], dtype=object)
    try:
        if array.dtype == object:
            return np.array(array.tolist(), dtype=element)
        if array.dtype.kind in "US":
            raise ValueError(f"{array.dtype} is not a number")
        if element == "float32" and array.dtype == np.float64:
            return _narrow(item, array)
        return array.astype(element, copy=False)
    except (ValueError, TypeError, OverflowError) as error:
        raise Invalid(f"input {item.name!r} takes {item.dtype}: {error}") from None


def _narrow(item: Input, array: Array) -> Array:
    """Floats of 64 bits as such of 32; one that does not fit would become infinite, and is refused."""
    import numpy as np

    with np.errstate(over="ignore"):
        found = array.astype(np.float32)
    infinite = np.isinf(found)
    if infinite.any() and (lost := np.argwhere(infinite & ~np.isinf(array))).size:
        fact = "a number is too large for float32 (beyond ±3.4e38)"
        raise Invalid(f"input {item.name!r}, row {int(lost[0][0])}: {fact}")
    return found


def _check_shape(item: Input, array: Array) -> None:
    if tuple(array.shape[1:]) != item.shape and array.dtype != object:
        raise Invalid(f"input {item.name!r} takes {list(item.shape)} values a row, not {list(array.shape[1:])}")


def _by_element(
    tensors: list[tuple[str, str, str, int]], manifest: BundleManifest
) -> dict[tuple[str, tuple[int, ...]], list[tuple[int, str, int]]]:
    """The tensors of each element type and shape: the place of their input in a row, their name and rank."""
    if manifest.layout is Layout.MATRIX:
        return {}
    places = {name: place for place, name in enumerate(manifest.signature.names)}
    shapes = {item.name: item.shape for item in manifest.signature.inputs}
    groups: dict[tuple[str, tuple[int, ...]], list[tuple[int, str, int]]] = {}
    for name, tensor, element, rank in tensors:
        groups.setdefault((element, shapes[name]), []).append((places[name], tensor, rank))
    return groups


def _arrays(columns: list[tuple[Any, ...]], element: str) -> Sequence[Array]:
    """Columns of one element type as arrays; numbers are converted all at once."""
    if element == "object":
        return [_from_values(column, element) for column in columns]
    return list(_from_values(columns, element))


def _from_values(values: Sequence[Any], element: str) -> Array:
    """Plain values, or rows of them, as an array; None becomes NaN, or "" among strings."""
    import numpy as np

    if element == "object":
        return np.array(["" if value is None else value for value in values], dtype=object)
    try:
        with np.errstate(over="ignore"):
            array = np.array(values, dtype=element)
    except OverflowError:
        raise Invalid(f"a number is too large for {element}") from None
    if element == "float32" and np.isinf(array).any():
        raise Invalid("a number is too large for float32 (beyond ±3.4e38)")
    return array


def _shaped(array: Array, rank: int) -> Array:
    return array.reshape(-1, 1) if rank == 2 and array.ndim == 1 else array
