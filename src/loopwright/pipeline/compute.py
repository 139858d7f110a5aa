"""Where steps run: the setting `compute`, and the workers that follow from it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from loopwright.core import Invalid
from loopwright.pipeline.messages import Setup
from loopwright.pipeline.processes import WorkerProcess
from loopwright.pipeline.workers import Worker
from loopwright.store import Stores

LOCAL, RAY = "local", "ray"
_ADDRESS = re.compile(r"(ray://)?[\w.\-]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}|auto")


@contextmanager
def workers_on(stores: Stores) -> Iterator[Callable[[Setup], Worker]]:
    """What makes workers, as the workspace's settings say.

    Raises:
        Invalid: the setting `compute` is none that is known, the extra `ray` is missing, or the workspace's stores are
            within no other machine's reach.
        Unavailable: the cluster does not answer.
    """
    compute = stores.location.settings.compute
    if compute == LOCAL:
        yield WorkerProcess
        return
    address = _address(compute)
    from loopwright.pipeline.ray_workers import ray_workers

    with ray_workers(stores, address) as start:
        yield start


@contextmanager
def ray_on(compute: str) -> Iterator[Any]:
    """The module `ray`, connected to where the setting `compute` says; None where that is processes of this machine.

    Raises:
        Invalid: the setting is none that is known, or the extra `ray` is missing.
        Unavailable: the cluster does not answer.
        Conflict: this process uses another cluster already.
    """
    if compute == LOCAL:
        yield None
        return
    address = _address(compute)
    from loopwright.pipeline.ray_workers import connected

    with connected(address) as ray:
        yield ray


def _address(compute: str) -> str | None:
    """The address of a cluster; None for a Ray of this machine."""
    if compute != RAY and not _ADDRESS.fullmatch(compute):
        raise Invalid(
            f"compute = {compute!r} is no place to run steps",
            next_step='say "local", "ray", "ray://host:port", or on a machine of a cluster "host:port" or "auto"',
        )
    return None if compute == RAY else compute
