"""Outside systems, a package each: what they hold comes here, what is here goes there. Nothing below imports this.

The face is lazy (PEP 562): importing it loads no SQL and no HTTP.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loopwright.connect.mlflow.api import MlflowApi
    from loopwright.connect.mlflow.exporting import export_mlflow
    from loopwright.connect.mlflow.importing import import_mlflow
    from loopwright.connect.mlflow.model import Omitted, Plan, Report, Source
    from loopwright.connect.mlflow.opening import open_mlflow_server, open_mlflow_store

_HOMES = {
    "mlflow.api": ("MlflowApi",),
    "mlflow.exporting": ("export_mlflow",),
    "mlflow.importing": ("import_mlflow",),
    "mlflow.model": ("Omitted", "Plan", "Report", "Source"),
    "mlflow.opening": ("open_mlflow_server", "open_mlflow_store"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "MlflowApi",
    "Omitted",
    "Plan",
    "Report",
    "Source",
    "export_mlflow",
    "import_mlflow",
    "open_mlflow_server",
    "open_mlflow_store",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    return value


class _CallableRoom(ModuleType):
    """This package, which can be called as `loopwright.connect`, the door to a workspace.

    Importing a package binds it in its parent, under the name that the door has there. Both meanings therefore work on
    the same object.
    """

    def __call__(self, *given: Any, **named: Any) -> Any:
        door = import_module(__name__.partition(".")[0]).__getattr__("connect")
        return door(*given, **named)


sys.modules[__name__].__class__ = _CallableRoom
