"""An inspection as a person reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loopwright.models import BundleManifest, Inspection, ModelVersion, Vouch

_FILES_SHOWN = 50


def show_inspection(found: Inspection) -> None:
    """Print it as tables: facts, inputs, outputs, files, signatures, lineage."""

    from loopwright.cli.render import console_of, pairs_of, table_of

    console = console_of()
    for title, rows in _parts(found):
        console.print(pairs_of(rows, title) if isinstance(rows, Mapping) else table_of(rows, title=title))
        console.print()


def _parts(found: Inspection) -> Iterator[tuple[str, Any]]:
    manifest, version = found.manifest, found.version
    facts: dict[str, Any] = {}
    if version is not None:
        facts |= {"ref": version.ref, "aliases": version.aliases, "bundle": version.bundle, "kind": version.kind}
        facts |= {"size_bytes": version.size_bytes, "made": version.created_at, "by": version.actor}
        facts |= {"run": version.run, "trained on": version.training_data, "metrics": version.metrics}
    if manifest is not None:
        facts |= {"format": manifest.format, "task": manifest.task, "target": manifest.target}
        facts |= {"classes": manifest.classes, "environment": manifest.environment, "proof": _proof(manifest)}
    scan = version.scan if version is not None else found.scan
    facts["runs code"] = ", ".join(scan.executable) or "no"
    facts["signed by"] = ", ".join(_signer(item) for item in found.signatures) or "nobody"
    yield "", facts
    if manifest is not None:
        yield "inputs", [_input(item) for item in manifest.signature.inputs]
        outputs = manifest.signature.outputs
        yield "outputs", [{"name": item.name, "type": item.dtype, "shape": item.shape} for item in outputs]
    if scan.findings:
        yield "findings", scan.findings
    if found.files:
        yield "files", [_file(item) for item in found.files[:_FILES_SHOWN]]
    if found.lineage:
        yield "made from", found.lineage


def show_vouch(found: Vouch) -> None:
    """Print what was verified: how much was read, and who signed it."""

    from loopwright.cli.render import console_of, pairs_of

    signed = ", ".join(_signer(item) for item in found.signatures) or "nobody"
    read = f"{found.files} files, {found.size_bytes:,} bytes, all as they were built"
    console_of().print(pairs_of({"ref": found.ref, "bundle": found.bundle, "read": read, "signed by": signed}))


def short_version(version: ModelVersion) -> dict[str, Any]:
    """A version as a row of a table."""
    names = ("ref", "aliases", "task", "metrics", "run", "size_bytes", "created_at", "actor")
    row = {name: getattr(version, name) for name in names}
    return {**row, "signed": bool(version.signatures), "runs_code": bool(version.scan.executable)}


def whole_version(version: ModelVersion) -> dict[str, Any]:
    """A version's facts, with its signatures and findings in few words."""
    facts = {name: getattr(version, name) for name in version.__struct_fields__ if name not in ("signatures", "scan")}
    signed = ", ".join(f"{item.key[:16]} ({item.signed_at:%Y-%m-%d} by {item.actor})" for item in version.signatures)
    found = [f"{item.level}: {item.file}: {item.what}" for item in version.scan.findings if item.level != "note"]
    facts |= {"signed by": signed or "nobody", "runs code": ", ".join(version.scan.executable) or "no"}
    return facts | ({"findings": found} if found else {})


def _file(item: Any) -> dict[str, Any]:
    return {"path": item.path, "size_bytes": item.size_bytes, "digest": f"{item.digest[:16]}…"}


def _input(item: Any) -> dict[str, Any]:
    seen = ", ".join(item.categories[:8]) if item.categories else ""
    if item.low is not None:
        seen = f"{item.low:g} to {item.high:g}"
    told = {"name": item.name, "type": item.dtype, "shape": item.shape}
    return {**told, "may be missing": item.nullable, "seen in training": seen}


def _proof(manifest: BundleManifest) -> str:
    parity = manifest.parity
    if not parity.rows:
        return "none: there was no original to compare with"
    return (
        f"{'passed' if parity.passed else 'failed'} on {parity.rows:,} rows, largest difference {parity.max_abs:.3g}, "
        f"same label on {parity.label_agreement:.2%}"
    )


def _signer(item: Any) -> str:
    return f"{item.key[:16]} ({'trusted' if item.trusted else 'not among the trusted keys'})"
