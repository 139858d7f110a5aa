"""Style sheet, script and Plotly's own bundle, served from their packages under a digest of their bytes."""

from __future__ import annotations

import gzip
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from starlette.responses import Response

from loopwright.core import NotFound, digest_bytes
from loopwright.govern import PUBLIC
from loopwright.server import Call, RouteSpec

_FOLDER = Path(__file__).parent / "static"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_NAMES = ("loopwright.css", "pages.js", "runs.js", "charts.js", "compare.js", "files.js", "icon.svg", "plotly.min.js")


@lru_cache(maxsize=len(_NAMES))
def _content(name: str) -> tuple[bytes, bytes, str]:
    """The bytes of an asset, the same packed, and the head of their digest."""
    if name == "plotly.min.js":
        found = files("plotly").joinpath("package_data", "plotly.min.js").read_bytes()
    else:
        found = (_FOLDER / name).read_bytes()
    return found, gzip.compress(found, 6), digest_bytes(found)[:16]


def url_of(name: str) -> str:
    """Where an asset is; the address changes with its content, so that it can be kept for ever."""
    return f"/static/{_content(name)[2]}/{name}"


async def serve(call: Call) -> Response:
    """One asset.

    Raises:
        NotFound: there is none of that name.
    """
    name = call.request.path_params["name"]
    if name not in _NAMES:
        raise NotFound(f"there is no asset {name!r}")
    content, packed, _ = await call.services.in_thread(lambda: _content(name))
    headers = {
        "Cache-Control": "public, max-age=31536000, immutable",
        "X-Content-Type-Options": "nosniff",
        "Vary": "Accept-Encoding",
    }
    if "gzip" in call.request.headers.get("accept-encoding", ""):
        return Response(packed, headers=headers | {"Content-Encoding": "gzip"}, media_type=_TYPES[Path(name).suffix])
    return Response(content, headers=headers, media_type=_TYPES[Path(name).suffix])


def asset_route() -> RouteSpec:
    """The route of the assets; anybody may read them."""
    return RouteSpec("GET", "/static/{digest}/{name}", PUBLIC, serve)
