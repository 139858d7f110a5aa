"""Where things are shown: the page of a ref, and paths inside a project."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote, urlencode

from loopwright.core import LoopwrightError, Ref, parse_ref
from loopwright.loop import watched_name

_PAGES = {
    "dataset": "datasets",
    "model": "models",
    "endpoint": "endpoints",
    "monitor": "monitors",
    "loop": "loops",
    "scoring": "scoring",
    "feature": "features",
    "run": "runs",
    "looprun": "loopruns",
    "rollout": "rollouts",
    "event": "events",
    "alert": "alerts",
    "approval": "approvals",
    "prediction": "predictions",
    "trace": "traces",
}


def path_to(project: str, *parts: str, **query: str | int | Sequence[str] | None) -> str:
    """The path of a page in a project; every part is quoted, empty query values are left out, lists are repeated."""
    path = "/".join(["", "p", quote(project, safe=""), *(quote(str(part), safe="") for part in parts)])
    given = {name: value for name, value in query.items() if value not in (None, "", [], ())}
    return f"{path}?{urlencode(given, doseq=True)}" if given else path


def page_of(project: str, ref: str) -> str:
    """The page of a ref; its lineage where its kind has no page of its own, and nothing where it is no ref."""
    try:
        parsed = parse_ref(ref)
    except LoopwrightError:
        return ""
    if parsed.kind not in _PAGES:
        return path_to(project, "lineage", ref=ref)
    job = watched_job(project, parsed.name) if parsed.kind == "endpoint" else ""
    return path_to(project, "scoring", job) if job else path_to(project, _PAGES[parsed.kind], *_tail(parsed))


def watched_job(project: str, endpoint: str) -> str:
    """The scoring job that stands where a monitor names an endpoint; empty if it is an endpoint."""
    before = watched_name(project, "")
    return endpoint.removeprefix(before) if endpoint.startswith(before) else ""


def _tail(ref: Ref) -> list[str]:
    """The name, and the version where versions have pages of their own."""
    return [ref.name, ref.selector] if ref.selector and ref.kind != "feature" else [ref.name]
