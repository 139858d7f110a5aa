"""How bad it is that a pickle takes a name from a module."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from loopwright.core import missing_extra
from loopwright.models.environment import library_versions
from loopwright.models.findings import Level
from loopwright.models.pickles import Used

# Modules whose classes make up models. A class among them is expected; a function is for a person to judge.
_LIBRARIES = frozenset({"sklearn", "lightgbm", "xgboost", "catboost", "numpy", "scipy", "pandas", "torch", "joblib"})
# Names outside of those, and functions in them, that the libraries' own pickles need.
_EXPECTED = frozenset(
    {
        "_codecs.encode",
        "builtins.bytearray",
        "builtins.bytes",
        "builtins.complex",
        "builtins.dict",
        "builtins.float",
        "builtins.frozenset",
        "builtins.int",
        "builtins.list",
        "builtins.object",
        "builtins.range",
        "builtins.set",
        "builtins.slice",
        "builtins.str",
        "builtins.tuple",
        "collections.OrderedDict",
        "collections.defaultdict",
        "copyreg._reconstructor",
        "datetime.date",
        "datetime.datetime",
        "datetime.timedelta",
        "decimal.Decimal",
        "joblib.numpy_pickle.NumpyArrayWrapper",
        "numpy._core.multiarray._reconstruct",
        "numpy._core.multiarray.scalar",
        "numpy.core.multiarray._reconstruct",
        "numpy.core.multiarray.scalar",
        "numpy._core.numeric._frombuffer",
        "numpy.core.numeric._frombuffer",
        "numpy.dtype",
        "numpy.ndarray",
        "numpy.random._pickle.__bit_generator_ctor",
        "numpy.random._pickle.__generator_ctor",
        "numpy.random._pickle.__randomstate_ctor",
        "pandas.core.indexes.base._new_Index",
        "pandas._libs.arrays.__pyx_unpickle_NDArrayBacked",
        "pandas._libs.internals._unpickle_block",
        "pathlib.Path",
        "pathlib.PosixPath",
        "pathlib.PurePosixPath",
        "pathlib.WindowsPath",
        "sklearn._loss._loss.__pyx_unpickle_CyLossFunction",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_tensor_v2",
    }
)
# How cloudpickle carries functions and classes by value: code that can be read only by running it.
_OWN_CODE = frozenset({"builtins.type"}) | frozenset(
    f"cloudpickle.cloudpickle.{name}"
    for name in (
        "_builtin_type", "_class_setstate", "_fill_function", "_function_setstate", "_make_cell", "_make_empty_cell",
        "_make_function", "_make_skel_func", "_make_skeleton_class", "_make_typevar", "subimport",
    )
)  # fmt: skip
_NUMBERS = frozenset(
    f"numpy.{name}{bits}"
    for name in ("float", "int", "uint", "complex", "bool")
    for bits in ("", "_", "8", "16", "32", "64", "128")
)
# Modules that no model needs, whatever is taken from them; more are known to picklescan.
_DANGEROUS = frozenset(
    {
        "_pickle", "_posixsubprocess", "asyncio", "bdb", "builtins", "cloudpickle", "code", "codeop", "commands",
        "ctypes", "dill", "distutils", "doctest", "ensurepip", "ftplib", "functools", "gc", "glob", "http", "httplib",
        "httpx", "imaplib", "importlib", "inspect", "io", "linecache", "lib2to3", "logging", "marshal", "mmap",
        "multiprocessing", "nt", "operator", "_operator", "os", "pathlib", "pdb", "pickle", "pip", "pkgutil",
        "platform", "poplib", "posix", "profile", "cProfile", "pty", "pydoc", "requests", "runpy", "select",
        "setuptools", "shelve", "shutil", "signal", "site", "smtplib", "socket", "socketserver", "sqlite3", "ssl",
        "subprocess", "sys", "telnetlib", "tempfile", "threading", "timeit", "trace", "types", "urllib", "uuid",
        "venv", "webbrowser", "xmlrpc", "zipimport", "__builtin__", "_io", "_thread", "idlelib",
    }
)  # fmt: skip
_DANGEROUS_NAMES = frozenset(
    {
        "__builtins__", "__call__", "__dict__", "__getattribute__", "__globals__", "__import__", "__subclasses__",
        "breakpoint", "check_call", "check_output", "compile", "eval", "exec", "execfile", "exec_module", "getattr",
        "import_module", "input", "load_module", "open", "os", "popen", "run_module", "run_path", "setattr", "spawn",
        "subprocess", "sys", "system",
    }
)  # fmt: skip


def judge(used: Iterable[Used], data: bytes = b"", name: str = "") -> dict[Used, Level]:
    """The level of each name that a pickle uses; of names that only picklescan sees in its bytes, too.

    Raises:
        Invalid: there are bytes to scan and picklescan is not installed.
    """
    levels = {item: _level(item) for item in used}
    for item, dangerous in (_second_opinion(data, name) if data else {}).items():
        level = Level.DANGEROUS if dangerous and str(item) not in _EXPECTED | _OWN_CODE else _level(item)
        levels[item] = max(level, levels.get(item, level), key=lambda found: found.weight)
    return levels


def _level(item: Used) -> Level:
    full = f"{item.module}.{item.name}"
    parts = full.split(".")
    if item.hidden or _DANGEROUS_NAMES & set(parts):
        return Level.DANGEROUS
    if full in _EXPECTED or full in _NUMBERS:
        return Level.NOTE
    if full in _OWN_CODE:
        return Level.SUSPICIOUS
    if parts[0] in _DANGEROUS:
        return Level.DANGEROUS
    made_of_classes = all(part.lstrip("_")[:1].isupper() for part in item.name.split("."))
    if parts[0] in _LIBRARIES and made_of_classes:
        return Level.NOTE
    return Level.SUSPICIOUS


def _second_opinion(data: bytes, name: str) -> dict[Used, bool]:
    """The names that picklescan finds in a pickle's bytes, and whether it calls them dangerous."""
    scanner: Any = picklescan()
    told = logging.getLogger("picklescan")
    level = told.level
    told.setLevel(logging.CRITICAL)
    try:
        found = scanner.scan_pickle_bytes(io.BytesIO(data), name)
    except Exception:  # noqa: BLE001  of damaged pickles it raises what it likes; our own reading tells of them
        return {}
    finally:
        told.setLevel(level)
    return {Used(item.module, item.name): item.safety is scanner.SafetyLevel.Dangerous for item in found.globals}


def picklescan() -> Any:
    """The scanner's module.

    Raises:
        Invalid: it is not installed.
    """
    try:
        return import_module("picklescan.scanner")
    except ImportError:
        raise missing_extra("picklescan", "scan", "scanning a format that can run code") from None


def tools() -> dict[str, str]:
    """What scans, with its version; picklescan is not needed where there is nothing but Python source."""
    return library_versions("loopwright", "picklescan")
