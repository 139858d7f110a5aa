"""Model cards: what is known of a version, as Markdown that a person reads."""

from __future__ import annotations

from collections.abc import Iterable

from loopwright.models.findings import Level
from loopwright.models.model import BundleManifest, Input, ModelVersion, Parity

_SHOWN_CATEGORIES = 8


def render_card(version: ModelVersion, manifest: BundleManifest, trusted: frozenset[str] = frozenset()) -> str:
    """The card of a version; `trusted` are the fingerprints of the keys whose signatures count."""
    parts = [
        f"# {version.name}, version {version.version}",
        version.description,
        _facts(version, manifest),
        _section("Metrics", _metrics(version)),
        _section("Trained on", "\n".join(f"- `{ref}`" for ref in version.training_data)),
        _section("Features that a server looks up", "\n".join(f"- `{ref}`" for ref in manifest.features)),
        _section("Inputs", _inputs(manifest.signature.inputs)),
        _section("Outputs", _outputs(manifest)),
        _section("Limits", "\n".join(f"- {line}" for line in _limits(version, manifest))),
        _section("Proof of conversion", _parity(manifest.parity)),
        _section("Signatures", _signatures(version, trusted)),
        _section("Made with", ", ".join(f"{name} {number}" for name, number in sorted(manifest.libraries.items()))),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _facts(version: ModelVersion, manifest: BundleManifest) -> str:
    facts = {
        "ref": f"`{version.ref}`",
        "aliases": ", ".join(version.aliases),
        "task": f"{manifest.task}" + (f", of `{manifest.target}`" if manifest.target else ""),
        "classes": ", ".join(map(str, manifest.classes)),
        "made": f"{version.created_at:%Y-%m-%d %H:%M} UTC by {version.actor}",
        "run": f"`run:{version.run}`" if version.run else "",
        "bundle": f"`{version.bundle}` ({version.size_bytes:,} bytes, {manifest.format})",
        "environment": f"`{manifest.environment}`",
        "tags": ", ".join(f"{key}={value}" for key, value in sorted(version.tags.items())),
    }
    return _table(("", ""), ((name, value) for name, value in facts.items() if value))


def _metrics(version: ModelVersion) -> str:
    if not version.metrics:
        return ""
    return _table(("metric", "value"), ((name, f"{value:.6g}") for name, value in sorted(version.metrics.items())))


def _inputs(inputs: tuple[Input, ...]) -> str:
    rows = (
        (
            f"`{i.name}`",
            " ".join((i.dtype, "×".join(map(str, i.shape)))).strip(),
            "yes" if i.nullable else "no",
            _seen(i),
        )
        for i in inputs
    )
    return _table(("input", "type", "may be missing", "seen in training"), rows)


def _seen(item: Input) -> str:
    if item.categories:
        shown = ", ".join(item.categories[:_SHOWN_CATEGORIES])
        more = len(item.categories) > _SHOWN_CATEGORIES or item.more_categories
        return f"{shown}, …" if more else shown
    return "" if item.low is None or item.high is None else f"{item.low:g} to {item.high:g}"


def _outputs(manifest: BundleManifest) -> str:
    rows = ((f"`{o.name}`", o.dtype, "×".join(map(str, o.shape)) or "one value") for o in manifest.signature.outputs)
    return _table(("output", "type", "per row"), rows)


def _limits(version: ModelVersion, manifest: BundleManifest) -> Iterable[str]:
    """What a reader should not expect of it, as far as the bundle tells."""
    inputs = manifest.signature.inputs
    if version.scan.executable:
        yield f"It can run code when it is loaded ({', '.join(version.scan.executable)}); it is run isolated."
    for item in version.scan.findings:
        if item.level is not Level.NOTE:
            yield f"{item.level.capitalize()} in `{item.file}`: {item.what}."
    if any(item.low is not None or item.categories for item in inputs):
        yield "It has learnt nothing of values outside of those seen in training; its answers there are guesses."
    else:
        yield "It does not say which values training has seen, so drift of its inputs cannot be told."
    never = [item.name for item in inputs if not item.nullable]
    if never and len(never) < len(inputs):
        yield f"Training saw no missing values in {', '.join(f'`{name}`' for name in never)}."
    elif never:
        yield "Training saw no missing values."
    if not version.metrics:
        yield "No score on held-out rows is recorded."
    if not version.training_data:
        yield "The data that it was trained on is not recorded."


def _signatures(version: ModelVersion, trusted: frozenset[str]) -> str:
    rows = (
        (f"`{item.key}`", "yes" if item.key in trusted else "no", f"{item.signed_at:%Y-%m-%d %H:%M} UTC", item.actor)
        for item in version.signatures
    )
    return _table(("key", "trusted here", "brought", "by"), rows) if version.signatures else "None."


def _parity(parity: Parity) -> str:
    if not parity.rows:
        return "Brought as an ONNX file: there is no other form of the model to compare with."
    text = (
        f"On {parity.rows:,} sample rows the bundle gives what the original gives: largest difference "
        f"{parity.max_abs:.3g} (relative {parity.max_rel:.3g}; allowed {parity.tolerance:g}), labels agree on "
        f"{parity.label_agreement:.2%}."
    )
    if parity.edge_rows:
        text += f" {parity.edge_rows} rows on the edge of a split were left out."
    if parity.cast_agreement < 1.0:
        text += f" Narrowing the inputs to float32 changes {1 - parity.cast_agreement:.2%} of the answers."
    return text


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body}" if body else ""


def _table(header: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
