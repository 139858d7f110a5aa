"""TensorFlow's SavedModel folders, judged without TensorFlow: the operators that they name, read off their bytes.

A SavedModel is a program of TensorFlow's operators, and some of those read and write files, call Python or speak to
other machines. No model needs them to answer. See TensorFlow's SECURITY.md, "TensorFlow models are programs".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from loopwright.core import Invalid

SAVED_MODEL = "saved_model.pb"
PROGRAM = "TensorFlow program"
MAX_BYTES = 1 << 30
# Fields of TensorFlow's messages: SavedModel.meta_graphs, MetaGraphDef.graph_def, GraphDef.node and .library,
# FunctionDefLibrary.function, FunctionDef.node_def, NodeDef.op.
_META_GRAPHS, _GRAPH, _NODE, _LIBRARY, _FUNCTION, _FUNCTION_NODE, _OPERATOR = 2, 2, 1, 2, 1, 3, 2
_NEEDLESS = re.compile(
    r"ReadFile|WriteFile|MatchingFiles|LoadDataset|DumpTensor|RemoteCall|Abort|FileSystemSetConfiguration|\w*PyFunc\w*"
    r"|Rpc\w+|Debug(Identity|Numeric|Nan|Gradient)\w*|CreateSummary\w+|DataService\w+|\w*Snapshot\w*|\w*SqlDataset"
    r"|\w*MatchingFilesDataset|\w*(TFRecord|TextLine|FixedLengthRecord|WholeFile|LMDB)\w*|SaveDataset\w*"
)


def is_saved_model(path: Path) -> bool:
    """Whether a path is a SavedModel folder."""
    return (path / SAVED_MODEL).is_file()


def needless_operators(data: bytes) -> list[str]:
    """The operators in a `saved_model.pb` that do what no model needs: files, Python, other machines.

    Raises:
        Invalid: the bytes are no SavedModel.
    """
    return sorted({name for name in _operators(data) if _NEEDLESS.fullmatch(name)})


def _operators(data: bytes) -> Iterator[str]:
    for meta in _parts(memoryview(data), _META_GRAPHS):
        for graph in _parts(meta, _GRAPH):
            for node in _parts(graph, _NODE):
                yield from _names(node)
            for library in _parts(graph, _LIBRARY):
                for function in _parts(library, _FUNCTION):
                    for node in _parts(function, _FUNCTION_NODE):
                        yield from _names(node)


def _names(node: memoryview) -> Iterator[str]:
    for operator in _parts(node, _OPERATOR):
        yield bytes(operator).decode("utf-8", "replace")


def _parts(message: memoryview, wanted: int) -> Iterator[memoryview]:
    """The values of a field of a message that hold bytes: text, or messages (Protocol Buffers, "Encoding")."""
    place = 0
    while place < len(message):
        key, place = _number(message, place)
        kind = key & 7
        if kind == 0:
            _, place = _number(message, place)
            continue
        size = 8 if kind == 1 else 4
        if kind == 2:
            size, place = _number(message, place)
        if kind not in (1, 2, 5) or place + size > len(message):
            raise Invalid(
                f"the file is damaged, or no {SAVED_MODEL} of TensorFlow's", next_step="save or fetch the model again"
            )
        if kind == 2 and key >> 3 == wanted:
            yield message[place : place + size]
        place += size


def _number(message: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            break
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise Invalid(
        f"the file is damaged, or no {SAVED_MODEL} of TensorFlow's", next_step="save or fetch the model again"
    )
