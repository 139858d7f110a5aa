"""`loopwright up`: everything on one address."""

from __future__ import annotations

import logging
from typing import Any

import click

from loopwright.cli.command import Session, command


@command("up")
@click.option("--host", default="127.0.0.1", metavar="H", help="Bind this address; any but loopback demands tokens.")
@click.option(
    "--port", default=8000, metavar="N", type=click.IntRange(0, 65535), help="Bind this port; 0 for any free."
)
@click.option(
    "--allow-host", "allow_hosts", multiple=True, metavar="NAME", help="A further Host that may be asked for."
)
@click.option("--workers", type=click.IntRange(1, 256), metavar="N", help="Processes that answer predictions.")
@click.option("--memory", default="", metavar="SIZE", help="What models may take in each of them, such as 2G.")
@click.option("--grpc-port", type=click.IntRange(0, 65535), metavar="N", help="Answer gRPC there, on this machine.")
@click.option("--no-controller", is_flag=True, help="Leave the loops to another process.")
def up(
    session: Session,
    host: str,
    port: int,
    allow_hosts: tuple[str, ...],
    workers: int | None,
    memory: str,
    grpc_port: int | None,
    no_controller: bool,
) -> None:
    """Start the control app, the inference process and the controller; end with Ctrl-C or SIGTERM."""
    from loopwright.core import Invalid, locate
    from loopwright.loop import Controller
    from loopwright.server import InferenceOptions, Ready, serve_up
    from loopwright.ui import page_routes
    from loopwright.workspace import open_workspace

    if session.where and "://" in session.where:
        raise Invalid(f"{session.where!r} is a server already", next_step="give a folder")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    location = locate(session.where)

    def tell(ready: Ready) -> None:
        if session.as_json:
            session.emit(ready)
            return
        click.echo(f"Loopwright is up at {ready.url} with the workspace {ready.workspace} (Ctrl-C ends it)")
        if ready.first_token:
            click.echo(f"admin token, shown this once: {ready.first_token}")
        if not ready.inference:
            click.echo("the inference process is not ready yet; see the log above", err=True)

    with open_workspace(location.root, project=session.project) as workspace:
        beside: list[Any] = [] if no_controller else [Controller(workspace)]
        routes = page_routes()
        serve_up(
            workspace,
            host,
            port,
            tell,
            workers=beside,
            extra_routes=routes,
            allow_hosts=allow_hosts,
            inference=InferenceOptions(workers or 0, memory, grpc_port),
        )
