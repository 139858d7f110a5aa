"""Ray Serve with the model behind it, on one processor: ray_app.py PORT."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import serve
from scoring import BATCH, Scorer
from starlette.requests import Request


@serve.deployment(num_replicas=1, max_ongoing_requests=256, logging_config={"enable_access_log": False})
class Served:
    """Rows in, probabilities out."""

    def __init__(self) -> None:
        self.scorer = Scorer()

    @serve.batch(max_batch_size=BATCH or 1, batch_wait_timeout_s=0.0)
    async def together(self, several: list[Any]) -> list[Any]:
        """The probabilities of several requests, by one run of the model."""
        ends = np.cumsum([len(rows) for rows in several])[:-1]
        return list(np.split(self.scorer(np.concatenate(several)), ends))

    async def __call__(self, request: Request) -> Any:
        """The probabilities of a request's rows."""
        rows = np.asarray((await request.json())["rows"], dtype=np.float32)
        found = await self.together(rows) if BATCH else self.scorer(rows)
        return {"probability": found.tolist()}


if __name__ == "__main__":
    # A cluster of its own, whatever else runs on this machine.
    own = {"address": "local", "_temp_dir": str(Path.cwd())}
    ray.init(**own, num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Served.bind(), route_prefix="/predict")
    signal.sigwait([signal.SIGTERM, signal.SIGINT])
    serve.shutdown()
    ray.shutdown()
