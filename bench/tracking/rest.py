"""MLflow's REST protocol, as far as the rows speak it themselves."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from http_load import call, one_by_one, request
from peers import Server

API = "/api/2.0/mlflow"
PAGE = 25_000


def new_run(server: Server, **fields: Any) -> str:
    """The id of a fresh run."""
    made = call(server.url, "POST", f"{API}/runs/create", {"experiment_id": "0", "start_time": 1, **fields})
    return str(made["run"]["info"]["run_id"])


def point(key: str, step: int) -> dict[str, Any]:
    """A point of which the value tells its step."""
    return {"key": key, "value": step / 7, "timestamp": 1_700_000_000_000 + step, "step": step}


def history(server: Server, run: str, key: str, page: int = 0) -> list[tuple[int, float]]:
    """All points of a metric by step, in pages where the server makes them; `page` asks for that many a page."""
    found: list[tuple[int, float]] = []
    token = ""
    with one_by_one(server.url) as ask:
        while True:
            path = f"{API}/metrics/get-history?run_id={run}&metric_key={quote(key)}"
            path += f"&max_results={page}" if page else ""
            path += f"&page_token={quote(token)}" if token else ""
            answer = ask(request(server.url, "GET", path))
            found += [(int(item.get("step", 0)), float(item["value"])) for item in answer.get("metrics", [])]
            token = answer.get("next_page_token", "")
            if not token:
                return sorted(found)
