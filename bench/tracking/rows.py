"""The rows that write through servers: work done the same way on every side, checked, then told."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator
from functools import partial

from figures import OURS, Line, check
from http_load import ceiling, echo, request, send
from mlflow_user import User, user
from peers import Server, all_serving, serving
from rest import API, history, new_run, point
from running import Bench, Row, Task, sized

PROBES = (0, 1)


def start(bench: Bench) -> list[Line]:
    """From the start of the process to the first answer; the memory of all processes after three idle seconds."""

    def once(name: str) -> list[Line]:
        with serving(name, bench.databases.fresh(name)) as server:
            time.sleep(3)
            memory = server.memory_mb()
        cores = server.start_cpu_s / server.start_s
        why = f"{server.start_cpu_s:.2f} s of processor time, {cores:.2f} cores used"
        many = f"{len(memory)} processes, the largest of {memory[0]:.0f} MB"
        return [
            Line("start to first answer", name, server.start_s, "s", 1.5, False, bound_by=why),
            Line("idle memory, all processes", name, sum(memory), "MB", 200, False, bound_by=many),
        ]

    return bench.rounds({name: partial(once, name) for name in bench.sides}, most=2)


def client(bench: Bench) -> list[Line]:
    """MLflow's unmodified client, one `log_metric` a call; its own limit is taken from a server that stores nothing."""
    work, nothing = "mlflow client, log_metric", "(stores nothing)"

    def once(name: str, at: User, server: Server | None) -> list[Line]:
        calls = sized(name, bench.sizes.calls, bench.sizes.calls if server is None else bench.sizes.slow_calls)
        took, cost = at.do(bench.meter(server, at.pid), "log", calls, *([] if server else ["0" * 32]))
        return [Line(work, name, calls / took, "calls/s", bound_by=cost.bound_by(), cost=cost)]

    with contextlib.ExitStack() as stack, servers_of(bench) as servers:
        process, url = echo()
        stack.callback(process.wait)
        stack.callback(process.kill)
        clients = {nothing: stack.enter_context(user(url))}
        clients |= {name: stack.enter_context(user(server.url)) for name, server in servers.items()}
        lines = bench.rounds({name: partial(once, name, at, servers.get(name)) for name, at in clients.items()})
    limit = max((line.figure for line in lines if line.side == nothing), default=0.0)
    for line in lines:
        line.goal = 0.8 * limit
    return lines


def raw(bench: Bench) -> list[Line]:
    """`log-metric` over 8 kept-alive connections."""
    work, generator = "raw log-metric, 8 connections", "(load generator)"

    def once(name: str, server: Server) -> list[Line]:
        each = sized(name, bench.sizes.raw_each, bench.sizes.slow_raw_each)
        run = new_run(server)
        streams = [[_log_metric(server, run, f"m{worker}", step) for step in range(each)] for worker in range(8)]
        with (meter := bench.meter(server)):
            _, took = send(server.url, streams)
        for worker in range(8):
            check(history(server, run, f"m{worker}"), [(step, step / 7) for step in range(each)])
        least = 30.0 if name == "mlflow best" else 0.0
        why = meter.cost.bound_by()
        return [Line(work, name, 8 * each / took, "calls/s", 3_000, True, least, why, cost=meter.cost)]

    with servers_of(bench) as servers:
        tasks: dict[str, Task] = {name: partial(once, name, server) for name, server in servers.items()}
        tasks[generator] = lambda: [Line(work, generator, ceiling(), "calls/s", bound_by="the generator itself")]
        return bench.rounds(tasks)


def _log_metric(server: Server, run: str, key: str, step: int) -> bytes:
    return request(server.url, "POST", f"{API}/runs/log-metric", {"run_id": run, **point(key, step)})


def batch(bench: Bench) -> list[Line]:
    """`log-batch`, 1000 metrics a call of 1, 100 and 1000 keys, over one connection."""

    def once(name: str, server: Server, keys: int) -> list[Line]:
        calls, each = sized(name, bench.sizes.batches, bench.sizes.slow_batches), 1000 // keys
        run = new_run(server)
        stream = [_log_batch(server, run, keys, range(call * each, (call + 1) * each)) for call in range(calls)]
        with (meter := bench.meter(server)):
            _, took = send(server.url, [stream])
        for key in {0, keys // 2, keys - 1}:
            check(history(server, run, f"k{key}"), [(step, step / 7) for step in range(calls * each)])
        work, least = f"log_batch, 1000 metrics of {keys} keys", 30.0 if name.startswith("mlflow") else 0.0
        why = meter.cost.bound_by()
        return [Line(work, name, calls * 1000 / took, "metrics/s", 0, True, least, why, cost=meter.cost)]

    lines: list[Line] = []
    with servers_of(bench) as servers:
        for keys in (1, 100, 1000):
            lines += bench.rounds({name: partial(once, name, server, keys) for name, server in servers.items()})
    return lines


def _log_batch(server: Server, run: str, keys: int, steps: range) -> bytes:
    metrics = [point(f"k{key}", step) for step in steps for key in range(keys)]
    body = {"run_id": run, "metrics": metrics, "params": [], "tags": []}
    return request(server.url, "POST", f"{API}/runs/log-batch", body)


def create(bench: Bench) -> list[Line]:
    """Runs with 5 params, 5 metrics and 5 tags through MLflow's client, on the runs of the rounds before."""
    numbers = itertools.count()

    def once(name: str, at: User, server: Server) -> list[Line]:
        count = sized(name, bench.sizes.created, bench.sizes.slow_created)
        took, cost = at.do(bench.meter(server, at.pid), "create", count, f"created-{next(numbers)}")
        least, why = 10.0 if name == "mlflow" else 0.0, cost.bound_by()
        line = Line("create runs, mlflow client", name, count / took, "runs/s", 0, True, least, why, cost=cost)
        line.amount, line.thing = count, "runs a round"
        return [line]

    with contextlib.ExitStack() as stack, servers_of(bench) as servers:
        clients = {name: stack.enter_context(user(server.url)) for name, server in servers.items()}
        return bench.rounds({name: partial(once, name, at, servers[name]) for name, at in clients.items()})


@contextlib.contextmanager
def servers_of(bench: Bench) -> Iterator[dict[str, Server]]:
    """All sides' servers: those that rows share, or each on an empty workspace.

    Raises:
        RuntimeError: ours does not start, so that there is nothing to compare.
    """
    if bench.servers:
        yield bench.servers
        return
    with all_serving(bench.sides, bench.databases.fresh, bench.report) as servers:
        if OURS in bench.sides and OURS not in servers:
            raise RuntimeError("our own server does not start")
        yield servers


ROWS: dict[str, Row] = {"start": start, "client": client, "raw": raw, "batch": batch, "create": create}
