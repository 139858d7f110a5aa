"""What happened and why: events, the audit chain, lineage."""

from __future__ import annotations

import time
from typing import Any

import click

from loopwright.cli.command import Session, command, fail_softly

_FOLLOW_EVERY_S = 0.5


@command("events")
@click.option(
    "--kind", "kinds", multiple=True, metavar="KIND", help="Only this kind, such as alert.opened; repeatable."
)
@click.option("--subject", default="", metavar="REF", help="Only events about this ref.")
@click.option("--after", default=0, metavar="POSITION", help="Begin behind this position.")
@click.option("--limit", default=0, metavar="N", help="Stop after N events; 0 for all.")
@click.option("--follow", "-f", is_flag=True, help="Wait for more; end with Ctrl-C.")
def events(session: Session, kinds: tuple[str, ...], subject: str, after: int, limit: int, follow: bool) -> None:
    """The log of events, oldest first."""
    seen = 0
    while True:
        page = session.ws.events.list(after=after, limit=1000, kinds=kinds, subject=subject)
        for event in page:
            _print_event(session, event)
            seen, after = seen + 1, event.position
            if seen == limit:
                return
        if not page and not follow:
            return
        if not page:
            time.sleep(_FOLLOW_EVERY_S)


def _print_event(session: Session, event: Any) -> None:
    if session.as_json:
        session.emit(event)
        return
    from loopwright.cli.render import cell

    cause = f"  because {event.cause}" if event.cause else ""
    click.echo(f"{event.position:>6}  {event.at:%Y-%m-%d %H:%M:%S}  {event.kind:<26} {event.subject}{cause}")
    if event.evidence:
        click.echo(f"{'':>8}{cell(event.evidence, limit=220)}")


@click.group("audit")
def audit() -> None:
    """The chain of events."""


@command("verify")
def verify(session: Session) -> int:
    """Recompute the hash chain; exit code 1 names the first event that was edited, removed or reordered."""
    report = session.ws.events.verify()
    session.emit(report)
    return fail_softly(not report.ok)


audit.add_command(verify)


@command("trace")
@click.argument("ref")
@click.option("--up", "direction", flag_value="up", default=True, help="To what it was made from (default).")
@click.option("--down", "direction", flag_value="down", help="To what was made from it.")
def trace(session: Session, ref: str, direction: str) -> None:
    """Walk the lineage of a ref, printed as a tree."""
    found = session.ws.lineage.trace(ref, direction=direction)
    if session.as_json:
        session.emit(found)
        return
    from loopwright.cli.lineage_tree import print_tree

    print_tree(found, direction)
