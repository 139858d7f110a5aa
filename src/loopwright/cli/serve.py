"""`loopwright serve`: one model or endpoint behind one address, for every client protocol."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from loopwright.cli.command import Session, command

if TYPE_CHECKING:
    from loopwright.server import ServeReady


@command("serve")
@click.argument("what", metavar="MODEL_REF|ENDPOINT", required=False)
@click.option("--bundle", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="FOLDER",
              help="Serve the bundle in this folder, without a workspace.")  # fmt: skip
@click.option("--name", metavar="NAME", help="With --bundle: what the model is called. Default: the folder's name.")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="H", help="Bind this address.")
@click.option("--port", type=click.IntRange(0, 65535), metavar="N",
              help="Bind this port; 0 for any free. Default: what the host asks for, or 8080.")  # fmt: skip
@click.option("--grpc-port", type=click.IntRange(0, 65535), metavar="N", help="Answer gRPC there; 0 for any free.")
@click.option("--tls-cert", type=click.Path(path_type=Path), metavar="FILE",
              help="Speak TLS on both ports, with this certificate and those behind it (PEM).")  # fmt: skip
@click.option("--tls-key", type=click.Path(path_type=Path), metavar="FILE", help="Its private key, without a password.")
@click.option("--workers", type=click.IntRange(1, 256), metavar="N", help="Processes that answer.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1, 1024), help="Per prediction.")
@click.option("--memory", default="", metavar="SIZE",
              help="What models may take in the memory of each process, such as 2G; none for no bound.")  # fmt: skip
@click.option("--access-log", default="", metavar="FILE", help="A line of JSON per response; - for stderr.")
@click.option("--otlp", default="", metavar="URL", help="Send traces to this OpenTelemetry collector.")
@click.option("--online", default="", envvar="LOOPWRIGHT_ONLINE", metavar="URL",
              help="Look features up in this online store. Default: the workspace's. A password belongs into the "
                   "variable LOOPWRIGHT_ONLINE.")  # fmt: skip
@click.option("--drain", "drain_s", default=10.0, show_default=True, type=click.FloatRange(0), metavar="S",
              help="Seconds that answers under way may take at the end.")  # fmt: skip
@click.option("--journal", type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER",
              help="Keep the prediction log here. Default: the workspace's, and none with --bundle.")  # fmt: skip
def serve(session: Session, what: str | None, drain_s: float, **given: object) -> int:
    """Answer predictions for a registered model or an endpoint, until Ctrl-C or SIGTERM.

    MODEL_REF is model:NAME, model:NAME@3 or model:NAME@champion; when the alias, or the newest version, moves, the
    model is swapped while requests go on. ENDPOINT is endpoint:NAME, with the traffic that is published for it.
    """
    from loopwright.cli.serve_sources import Asked, source_of, tidier
    from loopwright.server import serve_until_told

    asked = Asked(what or "", session.where, session.project, **given)  # type: ignore[arg-type]  # click checked them
    plan, served = source_of(asked, session.say)
    return serve_until_told(plan, served, _teller(session), drain_s=drain_s, say=session.say, tidy=tidier(asked))


def _teller(session: Session) -> Callable[[ServeReady], None]:
    def tell(ready: ServeReady) -> None:
        if session.as_json:
            session.emit(ready)
            return
        click.echo(f"{ready.model} answers as {ready.name!r} at {ready.url} (Ctrl-C ends it)")
        if ready.grpc:
            click.echo(f"gRPC at {ready.grpc}")
        click.echo(f"what it takes: curl {ready.url}/v2/models/{ready.name}")
        click.echo(f"an example:    {example_of(ready)}")

    return tell


def example_of(ready: ServeReady) -> str:
    """A request that the model answers, as a command."""
    import httpx
    import msgspec

    # Whom the certificate names, and who vouches for it, is for clients to judge.
    answer = httpx.get(f"{ready.url}/v2/models/{ready.name}", trust_env=False, verify=False)  # noqa: S501  (ourselves)
    example = {"FP32": 0.5, "FP64": 0.5, "INT64": 1, "BOOL": True, "BYTES": "a"}
    inputs = [
        {"name": item["name"], "datatype": item["datatype"], "shape": [1], "data": [example.get(item["datatype"], 1)]}
        for item in answer.json()["inputs"]
    ]
    body = msgspec.json.encode({"inputs": inputs}).decode().replace("'", "'\\''")
    return f"curl {ready.url}/v2/models/{ready.name}/infer -H 'content-type: application/json' -d '{body}'"
