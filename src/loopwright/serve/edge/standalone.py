"""Answers rows with the model in this folder. Needs Python 3.10 or newer, numpy and onnxruntime, and nothing else.

    from bundle import predict
    predict([{"distance": 700.0, "carrier": "AA"}])     # rows
    predict({"distance": [700.0], "carrier": ["AA"]})   # or columns; both give an array per output

    python bundle.py rows.csv > answers.csv             # a row of answers per row; other columns are passed over

`bundle.json` says what the model takes and gives, and the digest of `model.onnx`, compared before it is loaded.
"""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any

import numpy as np

EDGE_FORMAT = 1
GRAPH_FILE = "model.onnx"
_CHUNK_ROWS = 1024
_INT64_LIMIT = 1 << 63
_WORDS = {"bool": "true or false", "int64": "a whole number", "string": "a string"}
_TRUTH = {"true": True, "false": False, "1": True, "0": False}


class BadInput(ValueError):
    """Rows that do not fit the model; the message names the column and the row (the first is 0)."""


class Damaged(RuntimeError):
    """The folder does not hold what was exported."""


class EdgeModel:
    """The model of a folder. Any number of threads may ask it at once."""

    def __init__(self, folder: Path, threads: int = 1) -> None:
        """Args:
        folder: holds bundle.json and model.onnx.
        threads: how many threads one prediction may use.

        Raises:
            Damaged: a file is missing, or not the one that was exported.
        """
        import onnxruntime

        self.about = _read_about(folder)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        graph = _read_verified(folder, self.about)
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._outputs = [item["name"] for item in self.about["outputs"]]

    @property
    def inputs(self) -> list[str]:
        """The names of the columns that the model takes."""
        return [item["name"] for item in self.about["inputs"]]

    def predict(self, rows: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Answer rows.

        Args:
            rows: a sequence or array of equal length per column, or a mapping per row. A missing number is None or
                NaN, a missing string None.

        Returns:
            an array per output, with a row per row.

        Raises:
            BadInput: a column is missing or unknown, or a value is missing or has another type.
        """
        return dict(zip(self._outputs, self._session.run(self._outputs, self.feed(rows)), strict=True))

    def feed(self, rows: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Checked rows as the graph takes them: an array per tensor.

        Raises:
            BadInput: as of `predict`.
        """
        columns = self._columns(rows)
        checked = {item["name"]: _checked(item, columns[item["name"]]) for item in self.about["inputs"]}
        return {item["tensor"]: _tensor(item, checked) for item in self.about["feeds"]}

    def _columns(self, rows: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        if isinstance(rows, Mapping):
            self._check_names(rows, "")
            lengths = {name: len(rows[name]) for name in self.inputs}
            if len(set(lengths.values())) > 1:
                raise BadInput(f"the columns have different lengths: {lengths}")
            return dict(rows)
        for number, row in enumerate(rows):
            self._check_names(row, f"row {number}: ")
        return {name: [row[name] for row in rows] for name in self.inputs}

    def _check_names(self, given: Mapping[str, Any], where: str) -> None:
        missing = [name for name in self.inputs if name not in given]
        extra = [str(name) for name in given if name not in self.inputs]
        if missing or extra:
            facts = [f"missing: {', '.join(missing)}"] if missing else []
            facts += [f"unknown: {', '.join(extra)}"] if extra else []
            raise BadInput(f"{where}the columns do not fit ({'; '.join(facts)}); the model takes {self.inputs}")


def predict(rows: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Answer rows with the model beside this file; see EdgeModel.predict."""
    return _beside().predict(rows)


@cache
def _beside() -> EdgeModel:
    return EdgeModel(Path(__file__).resolve().parent)


def _read_about(folder: Path) -> dict[str, Any]:
    try:
        about: dict[str, Any] = json.loads((folder / "bundle.json").read_bytes())
        version = about["edge_format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{folder / 'bundle.json'} cannot be read: {error!r}; export the model again") from None
    if version != EDGE_FORMAT:
        raise Damaged(f"bundle.json has the form {version}, and this program knows {EDGE_FORMAT}")
    return about


def _read_verified(folder: Path, about: dict[str, Any]) -> bytes:
    try:
        data = (folder / GRAPH_FILE).read_bytes()
    except OSError as error:
        raise Damaged(f"{GRAPH_FILE} cannot be read: {error}") from None
    if hashlib.sha256(data).hexdigest() != about["files"].get(GRAPH_FILE):
        raise Damaged(f"{GRAPH_FILE} is not what was exported; copy the folder again, or export the model again")
    return data


def _refusal(item: Mapping[str, Any], row: int, fact: str) -> BadInput:
    return BadInput(f"column {item['name']!r}, row {row}: {fact}")


def _checked(item: Mapping[str, Any], values: Any) -> Any:
    """The values of one column: an array where they come as numbers or have a shape, else a list."""
    if item["shape"]:
        return _checked_shapes(item, values)
    array = values if isinstance(values, np.ndarray) else None
    if array is not None and array.dtype.kind == "f" and item["dtype"].startswith("float"):
        bad = ~np.isfinite(array) if not item["nullable"] else np.isinf(array)
        for row in np.flatnonzero(bad).tolist():
            _checked_value(item, float(array[row]), row)
        return array
    listed = array.tolist() if array is not None else list(values)
    return [_checked_value(item, value, row) for row, value in enumerate(listed)]


def _checked_shapes(item: Mapping[str, Any], values: Any) -> Any:
    kind = {"float32": "float32", "float64": "float64", "int64": "int64", "bool": "bool"}.get(item["dtype"], "object")
    found = []
    for row, value in enumerate(values):
        try:
            array = np.array(value, dtype=kind)
        except (ValueError, TypeError, OverflowError) as error:
            raise _refusal(item, row, f"takes numbers in the shape {item['shape']}: {error}") from None
        if list(array.shape) != list(item["shape"]):
            raise _refusal(item, row, f"takes the shape {item['shape']}, not {list(array.shape)}")
        if kind.startswith("float") and not np.isfinite(array).all():
            raise _refusal(item, row, "holds a number that is missing or infinite")
        found.append(array)
    return np.stack(found) if found else np.empty((0, *item["shape"]), dtype=kind)


def _checked_value(item: Mapping[str, Any], value: Any, row: int) -> Any:
    """One value in the column's type: a whole float passes for a whole number, and 0 and 1 for truth values."""
    dtype = item["dtype"]
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or (isinstance(value, float) and value != value):
        if item["nullable"]:
            return None
        raise _refusal(item, row, "is missing, and training never saw it missing")
    if dtype == "string" and isinstance(value, str):
        return value
    if dtype == "bool" and value in (0, 1):
        return bool(value)
    if not isinstance(value, bool) and isinstance(value, (int, float)):
        if dtype == "int64" and value == value // 1 and -_INT64_LIMIT <= value < _INT64_LIMIT:
            return int(value)
        if dtype.startswith("float") and abs(value) <= sys.float_info.max:
            return float(value)
    raise _refusal(item, row, f"takes {_WORDS.get(dtype, 'a number')}, not {_shown(value)}")


def _shown(value: Any) -> str:
    if isinstance(value, int) and value.bit_length() > 128:  # Python refuses to write very long ones
        return f"a whole number of about {int(value.bit_length() * 0.30103) + 1} digits"
    return repr(value)[:60]


def _tensor(feed: Mapping[str, Any], columns: Mapping[str, Any]) -> Any:
    """What the graph takes as one tensor: one column, or a matrix of them."""
    arrays = [_array(name, columns[name], feed["element"]) for name in feed["inputs"]]
    if feed["matrix"]:
        return np.stack(arrays, axis=1)
    return arrays[0].reshape(-1, 1) if feed["rank"] == 2 and arrays[0].ndim == 1 else arrays[0]


def _array(name: str, values: Any, element: str) -> Any:
    if element == "object":
        found = np.empty(len(values), dtype=object)
        found[:] = ["" if value is None else value for value in values]
        return found
    if isinstance(values, list) and None in values:
        if not element.startswith("float"):
            raise BadInput(f"column {name!r}, row {values.index(None)}: is missing, and the model takes {element}")
        values = [np.nan if value is None else value for value in values]
    with np.errstate(over="ignore"):
        array = np.asarray(values).astype(element)
    if element == "float32" and np.isinf(array).any():
        row = int(np.argwhere(np.isinf(array))[0][0])
        raise BadInput(f"column {name!r}, row {row}: is too large for float32 (beyond 3.4e38)")
    return array


def answer_csv(model: EdgeModel, source: IO[str], target: IO[str]) -> int:
    """Answer the rows of a CSV file in chunks, so that memory does not grow with their number.

    Returns:
        how many rows were answered.

    Raises:
        BadInput: a row does not fit; those of the chunks before it are answered.
    """
    reader = csv.reader(source)
    header = next(reader, [])
    missing = [name for name in model.inputs if name not in header]
    if missing:
        raise BadInput(f"the file lacks the columns {', '.join(missing)}; the model takes {model.inputs}")
    places = {item["name"]: (header.index(item["name"]), item) for item in model.about["inputs"]}
    writer, done = csv.writer(target, lineterminator="\n"), 0
    for chunk in _chunks(reader):
        columns: dict[str, list[Any]] = {name: [] for name in places}
        for number, cells in enumerate(chunk, start=done):
            if len(cells) != len(header):
                raise BadInput(f"row {number} has {len(cells)} cells, and the header {len(header)}")
            for name, (place, item) in places.items():
                columns[name].append(_checked_cell(item, cells[place], number))
        answers = model.predict(columns)
        if not done:
            writer.writerow(answers)
        writer.writerows(zip(*(_cells(values) for values in answers.values()), strict=True))
        done += len(chunk)
    return done


def _chunks(rows: Iterator[list[str]]) -> Iterator[list[list[str]]]:
    chunk: list[list[str]] = []
    for row in rows:
        if row:
            chunk.append(row)
        if len(chunk) == _CHUNK_ROWS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _checked_cell(item: Mapping[str, Any], cell: str, row: int) -> Any:
    """A cell in its column's type; an empty one is a missing value, except among strings that are never missing."""
    if item["shape"]:
        try:
            return json.loads(cell)
        except ValueError:
            raise _refusal(item, row, f"takes a JSON list, not {cell[:60]!r}") from None
    if item["dtype"] == "string":
        return None if cell == "" and item["nullable"] else cell
    value: Any = cell
    if cell.strip() == "":
        value = None
    elif item["dtype"] == "bool":
        value = _TRUTH.get(cell.strip().lower(), cell)
    else:
        try:
            value = int(cell)
        except ValueError:
            try:
                value = float(cell)
            except ValueError:
                value = cell
    return _checked_value(item, value, row)


def _cells(values: Any) -> list[Any]:
    """An output as cells; several values a row are written as a JSON list."""
    listed: list[Any] = values.tolist()
    return [json.dumps(value) for value in listed] if values.ndim > 1 else listed


def main(arguments: Sequence[str]) -> int:
    """Answer the rows of a CSV file (or of standard input, as `-`) on standard output."""
    if len(arguments) != 1 or arguments[0].startswith("--"):
        sys.stderr.write("usage: python bundle.py rows.csv > answers.csv\n")
        return 2
    try:
        if arguments[0] == "-":
            answer_csv(_beside(), sys.stdin, sys.stdout)
        else:
            with Path(arguments[0]).open(newline="", encoding="utf-8-sig") as source:
                answer_csv(_beside(), source, sys.stdout)
    except (BadInput, Damaged, OSError, UnicodeDecodeError, csv.Error) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
