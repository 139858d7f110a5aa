"""`loopwright sync`: what dead processes recorded and could not deliver."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import click
import msgspec

from loopwright.cli.command import Session, command
from loopwright.core import LoopwrightError


class Synced(msgspec.Struct, frozen=True):
    """One spool: where its runs belong, and what came of it."""

    spool: str
    where: str
    project: str
    delivered: bool
    points: int = 0
    damaged: int = 0
    refused: list[str] = []
    reason: str = ""


@command("sync")
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--to", metavar="DIR|URL", help="Deliver everything there: the workspace has moved.")
def sync(session: Session, folder: Path | None, to: str | None) -> int:
    """Deliver what runs recorded while their workspace was away.

    FOLDER holds spools, and is by default where this machine keeps them. What a living process records is its own to
    deliver. Repeating it changes nothing: each point is stored once.
    """
    from loopwright.recording import spool_roots
    from loopwright.track import left_behind

    roots = [folder] if folder else spool_roots(session.where)
    with ExitStack() as stack:
        found = [_deliver(place, to, stack) for root in roots for place in left_behind(root)]
    session.emit(found, columns=("spool", "where", "project", "delivered", "points", "reason"))
    waiting = [item for item in found if not item.delivered]
    session.say(f"{len(found) - len(waiting)} of {len(found)} spools delivered" if found else "nothing waits here")
    return 4 if waiting else 0


def _deliver(folder: Path, to: str | None, stack: ExitStack) -> Synced:
    from loopwright.recording import open_target
    from loopwright.track import deliver_dead, spool_about

    about = spool_about(folder)
    if to:
        about = msgspec.structs.replace(about, where=to)
    try:
        target = open_target(about)
        stack.callback(target.close)
        delivery = deliver_dead(target, folder)
    except (LoopwrightError, OSError) as error:
        return Synced(folder.name, about.where, about.project, False, reason=str(error))
    if delivery is None:
        return Synced(folder.name, about.where, about.project, False, reason="another process delivers it")
    refused = [f"{item.what} of run {item.run}: {item.reason}" for item in delivery.refused]
    return Synced(folder.name, about.where, about.project, True, delivery.points, delivery.damaged, refused)
