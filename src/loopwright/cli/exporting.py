"""Exports of models: container images."""

from __future__ import annotations

from pathlib import Path

import click

from loopwright.cli.command import Session, command
from loopwright.cli.folders import bundle_in, is_bundle


@command("container")
@click.argument("model", metavar="REF|FOLDER")
@click.argument("target", type=click.Path(path_type=Path), metavar="TARGET")
@click.option("--base", metavar="PATH",
              help="What the image stands on: the folder of an OCI layout, or a root file system (a folder or an "
                   "archive), with this version of Python. With --dockerfile, the name after FROM.")  # fmt: skip
@click.option("--dockerfile", is_flag=True, help="Write a Dockerfile and its context instead of an image.")
@click.option("--name", default="", metavar="NAME", help="The model's name on the wire. Default: its registered name.")
@click.option("--tag", default="latest", show_default=True, metavar="TAG", help="The image's name in the layout.")
def container(
    session: Session, model: str, target: Path, base: str | None, dockerfile: bool, name: str, tag: str
) -> None:
    """Write an image that serves a model: an OCI layout in the new folder TARGET, made without a container engine.

    It runs as a user without rights, on a root file system that may be read-only, tells its health, and carries the
    digests of the bundle and the versions of its packages as labels.
    """
    from loopwright.core import Invalid, check_name, digest_file
    from loopwright.serve import write_context, write_image

    folder = Path(model)
    if is_bundle(folder):
        bundle, ref, digest = bundle_in(session, folder), folder.resolve().name, digest_file(folder / "bundle.json")
        wire = name or folder.resolve().name
    else:
        version = session.ws.models.get(model)
        bundle, ref, digest = session.ws.models.bundle(version.ref), version.ref, version.bundle
        wire = name or version.name
    check_name("model", wire)
    if dockerfile:
        made = write_context(bundle, target, name=wire, ref=ref, digest=digest, base=base or "")
        if session.as_json:
            session.emit({"path": str(made), "model": ref, "bundle": digest})
        else:
            click.echo(f"build it with: docker build -t {wire} {made}")
        return
    if base is None:
        raise Invalid(
            "an image needs a base to stand on",
            next_step="give --base FOLDER, such as skopeo copy docker://python:3.11-slim oci:FOLDER makes; or say "
            "--dockerfile",
        )
    report = write_image(bundle, target, Path(base), name=wire, ref=ref, digest=digest, tag=tag)
    if session.as_json:
        session.emit(report)
        return
    click.echo(f"{report.path}:{report.tag} serves {report.model} ({report.size_bytes / 1e6:,.0f} MB, {report.digest})")
    click.echo(f"load it with: skopeo copy oci:{report.path}:{report.tag} docker-daemon:{wire}:{report.tag}")
    click.echo(f"run it with:  docker run --read-only --tmpfs /tmp -p 8080:8080 {wire}:{report.tag}")
