"""How models with a process of their own are: told in figures, in the log and by readiness."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from loopwright.core import Unavailable
from loopwright.models import IsolatedPredictor
from loopwright.serve.loaded import LoadedEndpoint, LoadedVariant
from loopwright.serve.metrics import Figure


def isolated(endpoints: Iterable[LoadedEndpoint]) -> list[tuple[LoadedEndpoint, LoadedVariant, IsolatedPredictor]]:
    """The variants whose models have a process of their own."""
    return [
        (endpoint, item, item.predictor)
        for endpoint in endpoints
        for item in endpoint.variants
        if isinstance(item.predictor, IsolatedPredictor)
    ]


def worker_figures(endpoints: Iterable[LoadedEndpoint]) -> list[Figure]:
    """What Prometheus is told of them."""
    found = isolated(endpoints)
    labels = [f'{{endpoint="{endpoint.spec.name}",version="{item.version}"}}' for endpoint, item, _ in found]
    up = [
        (f"model_process_up{label}", "gauge", "Whether a model's own process runs.", float(held.worker_pid > 0))
        for label, (_, _, held) in zip(labels, found, strict=True)
    ]
    restarts = [
        (f"model_process_restarts_total{label}", "counter", "Processes of a model that were replaced.", held.restarts)
        for label, (_, _, held) in zip(labels, found, strict=True)
    ]
    return [*up, *restarts]


def check_ready(endpoint: LoadedEndpoint) -> None:
    """Refuse an endpoint of which a version that callers see cannot answer just now.

    Raises:
        Unavailable: its process is away.
    """
    for _, item, held in isolated([endpoint]):
        if item in endpoint.live and not held.worker_pid:
            raise Unavailable(f"the process of {item.variant.model} is not there", next_step="it is started again")


class HealthWatch:
    """Tells of each process of a model that was replaced, once."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._seen: dict[int, int] = {}

    def look(self, endpoints: Iterable[LoadedEndpoint]) -> None:
        """Compare with what was seen before."""
        seen: dict[int, int] = {}
        for endpoint, item, held in isolated(endpoints):
            seen[id(held)] = held.restarts
            if held.restarts > self._seen.get(id(held), 0):
                words = held.last_lines[-1] if held.last_lines else "it said nothing"
                self._report(
                    f"the process of {item.variant.model} (endpoint {endpoint.spec.name!r}) was replaced, "
                    f"{held.restarts} times by now: {words[:300]}"
                )
        self._seen = seen
