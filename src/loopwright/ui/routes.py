"""All pages, each with its permission."""

from __future__ import annotations

from starlette.responses import RedirectResponse, Response

from loopwright.govern import PUBLIC
from loopwright.server import Call, Family, RouteSpec
from loopwright.ui.assets import asset_route
from loopwright.ui.curves import curve
from loopwright.ui.links import path_to
from loopwright.ui.page import SECURITY, answer, bare_shell, error_page, page, render
from loopwright.ui.views import (
    comparing,
    datasets,
    experiments,
    features,
    files,
    history,
    loops,
    models,
    run,
    runs,
    scoring,
    serving,
    traces,
)


def page_routes() -> list[RouteSpec]:
    """The routes of the pages, for the control app."""
    return [
        RouteSpec("GET", "/", PUBLIC, _front, family=Family.PAGE, error_page=error_page),
        RouteSpec("GET", "/login", PUBLIC, _sign_in, family=Family.PAGE, error_page=error_page),
        asset_route(),
        page("", "loops:read", loops.overview),
        page("/loops/{name}", "loops:read", loops.loop),
        page("/loopruns/{id}", "loops:read", loops.loop_run),
        page("/scoring", "loops:read", scoring.jobs),
        page("/scoring/{name}", "loops:read", scoring.job),
        page("/endpoints", "endpoints:read", serving.endpoints),
        page("/endpoints/{name}", "endpoints:read", serving.endpoint),
        page("/rollouts/{id}", "rollouts:read", serving.rollout),
        page("/monitors/{name}", "monitors:read", serving.monitor),
        page("/predictions/{id}", "monitors:read", serving.prediction),
        page("/alerts", "monitors:read", history.alerts),
        page("/alerts/{id}", "monitors:read", history.alert),
        page("/approvals/{id}", "approvals:read", history.approval),
        page("/models", "models:read", models.models),
        page("/models/{name}", "models:read", models.model),
        page("/models/{name}/{selector}", "models:read", models.version),
        answer("/models/{name}/{selector}/files/{path:path}", "models:read", models.download),
        page("/runs", "runs:read", runs.runs),
        page("/experiments", "runs:read", experiments.experiments),
        answer("/words", "runs:read", runs.words),
        page("/compare", "runs:read", comparing.compare),
        answer("/curves", "runs:read", curve),
        page("/runs/{run}", "runs:read", run.run),
        page("/runs/{run}/files", "runs:read", files.files),
        page("/runs/{run}/code", "runs:read", run.code),
        page("/runs/{run}/system", "runs:read", run.system),
        answer("/runs/{run}/artifacts/{path:path}", "runs:read", files.download),
        page("/traces", "runs:read", traces.traces),
        page("/traces/{trace}", "runs:read", traces.trace),
        page("/datasets", "datasets:read", datasets.datasets),
        page("/datasets/{name}", "datasets:read", datasets.dataset),
        page("/datasets/{name}/{version}", "datasets:read", datasets.version),
        page("/features", "features:read", features.features),
        page("/features/{name}", "features:read", features.feature),
        page("/lineage", "lineage:read", history.lineage),
        page("/events", "events:read", history.events),
        page("/events/{id}", "events:read", history.event),
    ]


async def _front(call: Call) -> Response:
    return RedirectResponse(path_to(call.scope.project), status_code=307, headers=dict(SECURITY))


async def _sign_in(call: Call) -> Response:
    query = call.request.query_params
    values = {"failed": query.get("failed") == "1", "onward": query.get("next", "/")}
    html = await call.services.in_thread(lambda: render("login.html", bare_shell("Sign in"), values, {}))
    return Response(html, headers=dict(SECURITY), media_type="text/html")
