"""Models on their way in and out, and what vouches for them: import, export, inspect, verify, sign, card, sbom."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loopwright.cli.command import Session, command
from loopwright.core import Invalid

if TYPE_CHECKING:
    from loopwright.models import ModelVersion, Scan

PASSWORD_VARIABLE = "LOOPWRIGHT_KEY_PASSWORD"  # noqa: S105  the name of a variable
_FILE = click.Path(path_type=Path)
_NEW_FILE = click.Path(path_type=Path, dir_okay=False)


@command("import")
@click.argument("path", type=_FILE)
@click.option("--name", required=True, metavar="NAME", help="The registered name; it is made if it is new.")
@click.option("--sample", type=_FILE, metavar="FILE", help="CSV or Parquet: 100 or more rows of the model's inputs.")
@click.option("--task", default="", help="binary, multiclass, regression or other; found out where the model says it.")
@click.option("--target", default="", metavar="COLUMN", help="The name of what is predicted.")
@click.option("--tolerance", default=1e-4, help="How far the ONNX form may be off.", show_default=True)
@click.option("--metric", "metrics", multiple=True, metavar="NAME=VALUE", help="A score on held-out rows; repeatable.")
@click.option("--trained-on", multiple=True, metavar="REF", help="A dataset version, dataset:NAME@N; repeatable.")
@click.option("--run", default="", metavar="RUN", help="The run that made it.")
@click.option("--description", default="", help="Your own words; they stand in its card.")
@click.option("--allow-pickle", is_flag=True, help="It may be, or hold, a pickle; it is scanned, and runs isolated.")
@click.option("--allow-code", is_flag=True, help="It may bring Python source; a worker process runs it, isolated.")
def import_command(session: Session, path: Path, name: str, **given: Any) -> None:
    """Register the model at PATH: an ONNX, skops, LightGBM, XGBoost or CatBoost file, a folder of MLflow's, of
    TensorFlow's (SavedModel) or in Hugging Face's style, an exported bundle.

    It is judged before anything reads it, and proved on sample rows. A format that can run code is refused unless it
    is asked for by name.
    """
    from loopwright.models import About, Leave, import_model

    about = About(
        sample=given["sample"],
        task=given["task"],
        target=given["target"],
        tolerance=given["tolerance"],
        metrics=dict(_metric(text) for text in given["metrics"]),
        training_data=given["trained_on"],
        run=given["run"],
        description=given["description"],
    )
    leave = Leave(pickle=given["allow_pickle"], code=given["allow_code"])
    made = import_model(session.ws.models, path, name, about, leave, session.say)
    _warn(session, made.scan)
    _show(session, made)


@command("export")
@click.argument("ref")
@click.argument("target", type=_FILE)
def export(session: Session, ref: str, target: Path) -> None:
    """Write a version, with the signatures over it, to a new folder or a .zip file.

    `loopwright models import TARGET` gives the same bundle, digest for digest.
    """
    written = session.ws.models.export(ref, target)
    session.emit({"ref": ref, "path": str(written)})


@command("inspect")
@click.argument("ref")
def inspect(session: Session, ref: str) -> None:
    """All that is known of a version, or of a bundle in a folder or .zip file: inputs, proof, files, who signed it."""
    found = _inspection(session, ref)
    if session.as_json:
        session.emit(found)
        return
    from loopwright.cli.inspection import show_inspection

    show_inspection(found)
    _warn(session, found.version.scan if found.version else found.scan)


@command("verify")
@click.argument("ref")
@click.option("--key", type=_FILE, metavar="FILE", help="A public key that must have signed it.")
def verify(session: Session, ref: str, key: Path | None) -> int:
    """Read every byte of a version, or of a bundle in a folder or .zip file, and verify the signatures over it.

    Exit code 1 where a signature is asked for and missing, 5 where a byte is not what was built or signed.
    """
    found = _vouch(session, ref, key)
    if session.as_json:
        session.emit(found)
    else:
        from loopwright.cli.inspection import show_vouch

        show_vouch(found)
    if not found.passed:
        session.say("not signed by a key that is trusted" if key is None else f"not signed by the key in {key}")
    return 0 if found.passed else 1


@command("sign")
@click.argument("ref")
@click.option("--key", type=_FILE, required=True, metavar="FILE", help="A private key of an elliptic curve, in PEM.")
def sign(session: Session, ref: str, key: Path) -> None:
    """Sign every file of a version's bundle with a private key, which stays on this machine.

    A key with a password: it is read from LOOPWRIGHT_KEY_PASSWORD.
    """
    _show(session, session.ws.models.sign(ref, key, os.environ.get(PASSWORD_VARIABLE, "")))


@command("card")
@click.argument("ref")
@click.option("--html", is_flag=True, help="As a page that can be sent to others, in place of Markdown.")
@click.option("--output", "-o", type=_NEW_FILE, metavar="FILE", help="Write it there; your own text in it stays.")
@click.option("--text", type=_FILE, metavar="FILE", help="First keep this Markdown as the version's own text.")
def card(session: Session, ref: str, html: bool, output: Path | None, text: Path | None) -> None:
    """The card of a version: metrics, data, limits, proof, who signed it.

    The card is made from what is known. Your own text is the version's description, and what stands between the
    `author` marks of a file that --output writes again.
    """
    from loopwright.cli.cards import as_page, keep_author

    if text is not None:
        session.ws.models.tag_version(ref, {}, text.read_text(encoding="utf-8"))
    made = session.ws.models.card(ref)
    if output is not None and not html:
        made = keep_author(made, output)
    shown = as_page(made, ref) if html else made
    if output is not None:
        output.write_text(shown, encoding="utf-8")
        session.say(f"wrote {output}")
    elif session.as_json:
        session.emit({"ref": ref, "card": shown})
    else:
        click.echo(shown, nl=False)


@command("sbom")
@click.argument("ref")
@click.option("--output", "-o", type=_NEW_FILE, metavar="FILE", help="Write it there.")
def sbom(session: Session, ref: str, output: Path | None) -> None:
    """A version's bill of materials: CycloneDX 1.6 (ML-BOM) in JSON, with its files, data and libraries."""
    import msgspec

    found = session.ws.models.sbom(ref)
    if output is None:
        session.as_json = True
        session.emit(found)
    else:
        output.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
        session.say(f"wrote {output}")


def _show(session: Session, version: ModelVersion) -> None:
    from loopwright.cli.inspection import whole_version

    session.emit(version if session.as_json else whole_version(version))


def _inspection(session: Session, ref: str) -> Any:
    from loopwright.models import inspect_bundle

    return inspect_bundle(Path(ref)) if _is_path(ref) else session.ws.models.inspect(ref)


def _vouch(session: Session, ref: str, key: Path | None) -> Any:
    from loopwright.models import trust_of, vouch_for_bundle

    keys = () if key is None else trust_of(False, [str(key)], Path()).keys
    return vouch_for_bundle(Path(ref), keys) if _is_path(ref) else session.ws.models.verify(ref, keys)


def _is_path(ref: str) -> bool:
    """Whether it names a bundle in a folder, or a zip, of this machine; any other folder hides no model of its name."""
    path = Path(ref)
    return (path / "bundle.json").is_file() or (path.suffix.lower() == ".zip" and path.is_file())


def _metric(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise Invalid(f"the metric {text!r} is no NAME=VALUE", next_step="write it as --metric auc=0.83") from None


def _warn(session: Session, found: Scan) -> None:
    if not found.executable:
        return
    session.say(f"warning: it can run code when it is loaded ({', '.join(found.executable)}); it runs isolated")
    for item in found.findings:
        if item.level != "note":
            session.say(f"  {item.level}: {item.file}: {item.what}")


COMMANDS = (import_command, export, inspect, verify, sign, card, sbom)
