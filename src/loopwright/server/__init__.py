"""The control app: operations as routes, access rules, the live feed, the road to inference, and the remote client.

Names load their own part only: `RemoteWorkspace` needs no web framework.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loopwright.server.app import create_app
    from loopwright.server.client import RemoteWorkspace
    from loopwright.server.courier import RemoteTarget
    from loopwright.server.door import connect
    from loopwright.server.guard import COOKIE, error_reply
    from loopwright.server.route import FORM, Call, Family, RouteSpec
    from loopwright.server.run import InferenceOptions, Ready, serve_up
    from loopwright.server.serving import Served, ServeReady, kept_document, serve_until_told
    from loopwright.server.settings import ServerSettings

_HOMES = {
    "app": ("create_app",),
    "client": ("RemoteWorkspace",),
    "courier": ("RemoteTarget",),
    "door": ("connect",),
    "guard": ("COOKIE", "error_reply"),
    "route": ("FORM", "Call", "Family", "RouteSpec"),
    "run": ("InferenceOptions", "Ready", "serve_up"),
    "serving": ("ServeReady", "Served", "kept_document", "serve_until_told"),
    "settings": ("ServerSettings",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "COOKIE",
    "FORM",
    "Call",
    "Family",
    "InferenceOptions",
    "Ready",
    "RemoteTarget",
    "RemoteWorkspace",
    "RouteSpec",
    "ServeReady",
    "Served",
    "ServerSettings",
    "connect",
    "create_app",
    "error_reply",
    "kept_document",
    "serve_until_told",
    "serve_up",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    return value
