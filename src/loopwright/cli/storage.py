"""Holds, and the collection of garbage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from loopwright.cli.command import Session, command

if TYPE_CHECKING:
    from loopwright.govern import Collection

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@command("gc")
@click.option("--dry-run", is_flag=True, help="Change nothing; say what would go, and why the rest stays.")
@click.option(
    "--older-than", default=30.0, metavar="DAYS", help="Runs, experiments and models deleted longer ago go (30)."
)
@click.option("--grace", default=3600.0, metavar="SECONDS", help="Objects that were put later stay (3600).")
def gc(session: Session, dry_run: bool, older_than: float, grace: float) -> None:
    """Remove for good what was deleted long ago, and the objects that nothing reachable holds."""
    found = session.ws.storage.gc(dry_run=dry_run, older_than_days=older_than, grace_s=grace)
    if session.as_json:
        session.emit(found)
        return
    _print(found)


@command("hold")
@click.argument("ref")
@click.option("--reason", required=True, metavar="TEXT", help="Why it must stay.")
def hold(session: Session, ref: str, reason: str) -> None:
    """Keep a run, experiment, model version, dataset version or project, with all that it came from."""
    session.emit(session.ws.storage.hold(ref, reason))


@command("holds")
@click.option("--released", is_flag=True, help="Also those that were released.")
def holds(session: Session, released: bool) -> None:
    """List what is held."""
    session.emit(session.ws.storage.holds(released=released), columns=("id", "ref", "reason", "placed_at", "placed_by"))


@command("release-hold")
@click.argument("id")
@click.option("--reason", default="", metavar="TEXT", help="Why it may go now.")
def release_hold(session: Session, id: str, reason: str) -> None:
    """Give up a hold, by its id."""
    session.emit(session.ws.storage.release_hold(id, reason))


def _print(found: Collection) -> None:
    would = "would go" if found.dry_run else "went"
    gone = f"{found.runs:,} runs, {found.experiments:,} experiments, {found.versions:,} model versions"
    click.echo(f"{gone} and {found.logged_models:,} logged models {would}")
    for portion in found.portions:
        verb = would if portion.goes else "stay"
        click.echo(f"{_size(portion.size_bytes):>10}  {portion.objects:>9,} objects {verb}: {portion.reason}")
    for kept in found.kept:
        click.echo(f"kept, though deleted: {kept.ref} ({kept.reason})")
    click.echo(f"{_size(found.freed_bytes)} {'would be' if found.dry_run else 'are'} free")


def _size(count: float) -> str:
    for unit in _UNITS[:-1]:
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} {_UNITS[-1]}"
