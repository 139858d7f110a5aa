"""What every page has in common: a view gathers values, a template lays them out, `?format=json` gives the values."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from loopwright.core import Conflict, Corrupt, LoopwrightError, NotFound, Unavailable
from loopwright.server import Call, Family, RouteSpec
from loopwright.ui import assets, columns, formats, graph
from loopwright.ui.links import page_of, path_to
from loopwright.ui.markdown import markdown

if TYPE_CHECKING:
    import jinja2

_FOLDER = Path(__file__).parent
SECURITY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
        "connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
NAVIGATION = (
    ("", "Loops"),
    ("endpoints", "Endpoints"),
    ("scoring", "Scoring"),
    ("alerts", "Alerts"),
    ("models", "Models"),
    ("runs", "Runs"),
    ("datasets", "Datasets"),
    ("features", "Features"),
    ("lineage", "Lineage"),
    ("events", "Events"),
)


@dataclass(frozen=True)
class View:
    """What a view function found. `values` are both the page's JSON and what its template sees.

    section: the part of the site that it belongs to, as in NAVIGATION.
    trail: the pages above it: names and paths inside the project.
    live: the nouns of the events after which the page is stale; `poll_s` reloads it besides.
    scripts: assets that the page needs beside `pages.js`, which comes after them.
    """

    title: str
    template: str
    values: dict[str, Any]
    section: str = ""
    trail: tuple[tuple[str, tuple[str, ...]], ...] = ()
    live: tuple[str, ...] = ()
    poll_s: float | None = None
    status: int = 200
    drawings: dict[str, Any] = field(default_factory=dict)
    scripts: tuple[str, ...] = ()


_FILTERS = (
    "cell",
    "duration",
    "expression",
    "measure",
    "moment",
    "number",
    "percent",
    "short",
    "short_ref",
    "signed",
    "size",
    "telling",
    "trigger_text",
    "words",
)
ViewFunction = Callable[[Call], Awaitable[View]]


def page(path: str, permission: str, view: ViewFunction) -> RouteSpec:
    """The route of a page inside a project: `path` follows `/p/{project}`."""

    async def answer(call: Call) -> Response:
        found = await view(call)
        if call.request.query_params.get("format") == "json":
            return json_reply({"title": found.title, **found.values}, found.status)
        shell = _shell(call, found)
        html = await call.services.in_thread(lambda: render(found.template, shell, found.values, found.drawings))
        return Response(html, found.status, dict(SECURITY), "text/html")

    return RouteSpec("GET", f"/p/{{project}}{path}", permission, answer, family=Family.PAGE, error_page=error_page)


def answer(path: str, permission: str, handler: Callable[[Call], Awaitable[Response]]) -> RouteSpec:
    """A route inside a project that answers with something else than a page: JSON for a script, or a file."""
    return RouteSpec("GET", f"/p/{{project}}{path}", permission, handler, family=Family.PAGE, error_page=error_page)


def json_reply(values: dict[str, Any], status: int = 200) -> Response:
    """Values as JSON, under the rules of a page."""
    return Response(msgspec.json.encode(values), status, dict(SECURITY), "application/json")


def download_headers(path: str) -> dict[str, str]:
    """The headers of a file: a download that no browser interprets, though a page may show it as a picture."""
    name = quote(path.rsplit("/", 1)[-1], safe="")
    policy = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
    disposition = f"attachment; filename*=UTF-8''{name}"
    return {**SECURITY, "Content-Security-Policy": policy, "Content-Disposition": disposition}


async def attempt(call: Call, operation: str, **values: Any) -> tuple[Any, str]:
    """The result of an operation that a page can do without: None and the reason where it is missing, damaged,
    or not of the kind that has one."""
    try:
        return await call.ask(operation, **values), ""
    except (NotFound, Conflict, Corrupt, Unavailable) as error:
        return None, error.message


def _shell(call: Call, view: View) -> dict[str, Any]:
    project = call.scope.project
    return {
        "title": view.title,
        "project": project,
        "section": view.section,
        "trail": [(name, path_to(project, *parts)) for name, parts in view.trail],
        "navigation": [(name, path_to(project, *filter(None, [part])), part) for part, name in NAVIGATION],
        "live": " ".join(view.live),
        "poll_s": view.poll_s,
        "scripts": view.scripts,
        "csrf": call.session.csrf if call.session else "local",
        "actor": call.identity.actor if call.identity else "",
        "signed_in": call.session is not None,
        "json_url": _address(call.request, format="json"),
    }


def render(template: str, shell: dict[str, Any], values: dict[str, Any], drawings: dict[str, Any]) -> str:
    """The HTML of a page."""
    project = shell["project"]
    helpers = {
        "link": lambda *parts, **query: path_to(project, *parts, **query),
        "href": lambda ref: page_of(project, ref),
        "asset": assets.url_of,
    }
    return _environment().get_template(template).render(**helpers, shell=shell, drawings=drawings, **values)


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in _FILTERS:
        environment.filters[name] = getattr(formats, name)
    environment.filters["lineage_drawing"] = graph.draw
    environment.filters["markdown"] = markdown
    environment.filters["cell_of"], environment.filters["delta_of"] = columns.cell_of, columns.delta_of
    environment.filters["as_json"] = lambda value: msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    environment.filters["plain"] = msgspec.to_builtins
    environment.filters["data"] = _embedded
    return environment


def _embedded(value: Any) -> str:
    """JSON that may stand inside a script element: no character can end the element."""
    from markupsafe import Markup

    text = msgspec.json.encode(value).decode()
    for character, code in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026"), ("\u2028", "\\u2028")):
        text = text.replace(character, code)
    return Markup(text)  # noqa: S704  JSON with every character escaped that HTML gives a meaning


def error_page(request: Request, error: LoopwrightError) -> Response:
    """An error as a page (or as JSON where JSON was asked for); who is not known is sent to sign in."""
    if request.query_params.get("format") == "json":
        from loopwright.server import error_reply

        return error_reply(error)
    if error.http_status == 401:
        there = "/login?" + urlencode({"next": _address(request)})
        return RedirectResponse(there, status_code=303, headers=dict(SECURITY))
    project = request.path_params.get("project", "")
    shell = bare_shell(f"{error.http_status}", project)
    html = render("error.html", shell, {"error": error}, {})
    return Response(html, error.http_status, dict(SECURITY), "text/html")


def bare_shell(title: str, project: str = "") -> dict[str, Any]:
    """The frame of a page that belongs to nobody: without navigation where no project is known."""
    links = [(name, path_to(project, *filter(None, [part])), part) for part, name in NAVIGATION] if project else []
    return {
        "title": title,
        "project": project,
        "section": None,
        "trail": [],
        "navigation": links,
        "live": "",
        "poll_s": None,
        "scripts": (),
        "csrf": "",
        "actor": "",
        "signed_in": False,
        "json_url": "",
    }


def _address(request: Request, **changed: str) -> str:
    """The path and query of a request, to be asked again; `request.url` would take a name's `?` for the query's."""
    query = request.scope["query_string"].decode("latin-1")
    if changed:
        kept = [(name, value) for name, value in request.query_params.multi_items() if name not in changed]
        query = urlencode([*kept, *changed.items()])
    return quote(request.scope["path"]) + (f"?{query}" if query else "")
