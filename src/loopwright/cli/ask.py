"""`loopwright ask`: one endpoint's answer to one row, or to a few, from whoever serves it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from loopwright.cli.command import Session, command

_USUAL = "http://127.0.0.1:8000"
_TIMEOUT_S = 60.0


@command("ask")
@click.argument("endpoint")
@click.argument("values", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--key", "keys", multiple=True, metavar="NAME=VALUE",
              help="The key of an entity whose features are looked up; repeatable.")  # fmt: skip
@click.option("--rows", metavar="JSON|@FILE", help="Several rows, as a list of objects, instead of NAME=VALUE.")
@click.option("--at", "event_time", metavar="TIME", help="When it happened, in ISO 8601 with a zone. Default: now.")
@click.option("--explain", is_flag=True, help="Tell how far each input moved the answer.")
@click.option("--truth", metavar="PREDICTION=VALUE", multiple=True,
              help="Tell the truth about a prediction instead of asking; repeatable.")  # fmt: skip
@click.option("--url", metavar="URL", envvar="LOOPWRIGHT_SERVING",
              help="Whoever serves it. Default: the workspace's server, or http://127.0.0.1:8000.")  # fmt: skip
def ask(session: Session, endpoint: str, values: tuple[str, ...], truth: tuple[str, ...], **given: Any) -> None:
    """Ask an endpoint for its answer; without any value, what it must be told.

    VALUE is read as JSON where it is JSON, else it is text: origin=JFK distance=700.
    """
    url = str(given["url"] or (session.where if "://" in (session.where or "") else _USUAL)).rstrip("/")
    place = f"{url}/endpoints/{endpoint}"
    if truth:
        rows = [{"prediction_id": name, "value": value} for name, value in _pairs(truth).items()]
        session.emit(_answer("POST", f"{place}/feedback", {"rows": rows}))
        return
    body = _request(values, given["keys"], given["rows"])
    if not body:
        told = _answer("GET", place)
        session.emit(told if session.as_json else told["brings"])
        return
    more = {"event_time": given["event_time"], "explain": given["explain"] or None}
    body |= {name: value for name, value in more.items() if value is not None}
    session.emit(_answer("POST", f"{place}/predict", body)["predictions"])


def _request(values: tuple[str, ...], keys: tuple[str, ...], rows: str | None) -> dict[str, Any]:
    import msgspec

    from loopwright.cli.derived import read_text
    from loopwright.core import Invalid

    if rows and values:
        raise Invalid("values are given twice", next_step="give --rows or NAME=VALUE")
    body: dict[str, Any] = {}
    if rows:
        try:
            body["rows"] = msgspec.json.decode(read_text(Path(rows[1:]), "--rows") if rows.startswith("@") else rows)
        except msgspec.MsgspecError as error:
            raise Invalid(f"--rows is no JSON: {error}") from None
    elif values:
        body["rows"] = [_pairs(values)]
    if keys:
        body["keys"] = _pairs(keys)
    return body


def _pairs(given: tuple[str, ...]) -> dict[str, Any]:
    import msgspec

    from loopwright.core import Invalid

    found: dict[str, Any] = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not name or not sign:
            raise Invalid(f"{text!r} has not the form NAME=VALUE")
        try:
            found[name] = msgspec.json.decode(value)
        except msgspec.MsgspecError:
            found[name] = value
    return found


def _answer(method: str, url: str, body: Any = None) -> Any:
    import httpx
    import msgspec

    from loopwright.core import Unavailable
    from loopwright.serve import refusal

    token = os.environ.get("LOOPWRIGHT_TOKEN")
    headers = {"content-type": "application/json", **({"authorization": f"Bearer {token}"} if token else {})}
    content = None if body is None else msgspec.json.encode(body)
    # Reading the trusted authorities takes 25 ms, which an address without TLS need not spend.
    how: Any = {"timeout": _TIMEOUT_S, "trust_env": False, "verify": url.startswith("https:") and _believed()}
    try:
        answer = httpx.request(method, url, content=content, headers=headers, **how)
    except httpx.HTTPError as error:
        raise Unavailable(
            f"nobody answers at {url}: {error}", next_step="start `loopwright up` or `loopwright serve`, or give --url"
        ) from None
    if answer.status_code != 200:
        raise refusal(answer.status_code, answer.content)
    return msgspec.json.decode(answer.content)


def _believed() -> Any:
    """Who may vouch for a server: those in the file that SSL_CERT_FILE names, else those that httpx brings."""
    from loopwright.serve import trusting

    named = os.environ.get("SSL_CERT_FILE")
    return trusting(Path(named)) if named else True
