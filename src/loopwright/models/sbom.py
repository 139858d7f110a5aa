"""A bill of materials of a model (CycloneDX 1.6, ML-BOM): its files, what it was trained on, the libraries it was made
with, and its card in the form that CycloneDX has for one.

The same version gives the same document, byte for byte: its serial number comes from the bundle's digest.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from typing import Any

import msgspec

from loopwright.core import missing_extra
from loopwright.models.inspecting import HeldFile
from loopwright.models.model import BundleManifest, ModelVersion, Task

_LOCKED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;]+)")
_TASKS = {Task.BINARY: "classification", Task.MULTICLASS: "classification", Task.REGRESSION: "regression"}


def model_bom(version: ModelVersion, manifest: BundleManifest, files: Iterable[HeldFile], environment: str) -> bytes:
    """The document, as JSON.

    Args:
        version: the registered version.
        manifest: what its bundle says of itself.
        files: the bundle's files, with their BLAKE3 digests.
        environment: the text of the bundle's `environment.txt`.

    Raises:
        Invalid: the extra `sbom` is not installed.
    """
    try:
        from cyclonedx.model.bom import Bom, BomMetaData
        from cyclonedx.output import make_outputter
        from cyclonedx.schema import OutputFormat, SchemaVersion
    except ImportError:
        raise missing_extra("cyclonedx-python-lib", "sbom", "a bill of materials") from None
    model = _model(version, manifest, files)
    data = [_dataset(ref) for ref in version.training_data]
    libraries = list(_libraries(environment))
    bom = Bom(
        serial_number=uuid.uuid5(uuid.NAMESPACE_OID, version.bundle),
        components=[*data, *libraries],
        metadata=BomMetaData(component=model, timestamp=version.created_at),
    )
    bom.register_dependency(model, [*data, *libraries])
    told = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string()
    document: dict[str, Any] = msgspec.json.decode(told)
    document["metadata"]["component"]["modelCard"] = _card(version, manifest)
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def _model(version: ModelVersion, manifest: BundleManifest, files: Iterable[HeldFile]) -> Any:
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.component import Component, ComponentType

    facts = {
        "loopwright:ref": version.ref,
        "loopwright:format": manifest.format,
        "loopwright:bundle": version.bundle,
        "loopwright:run": f"run:{version.run}" if version.run else "",
        "loopwright:environment": manifest.environment,
        **{f"loopwright:signed-by:{number}": item.key for number, item in enumerate(version.signatures, 1)},
        **{f"loopwright:runs-code:{number}": kind for number, kind in enumerate(version.scan.executable, 1)},
    }
    held = [
        Component(
            name=item.path,
            type=ComponentType.FILE,
            bom_ref=f"{version.ref}/{item.path}",
            hashes=[HashType(alg=HashAlgorithm.BLAKE3, content=item.digest)],
            properties=[Property(name="loopwright:size_bytes", value=str(item.size_bytes))],
        )
        for item in files
    ]
    return Component(
        name=version.name,
        version=str(version.version),
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=version.ref,
        description=version.description or None,
        hashes=[HashType(alg=HashAlgorithm.BLAKE3, content=version.bundle)],
        properties=[Property(name=name, value=value) for name, value in facts.items() if value],
        components=held,
    )


def _dataset(ref: str) -> Any:
    from cyclonedx.model.component import Component, ComponentType

    name, _, number = ref.removeprefix("dataset:").partition("@")
    return Component(name=name, version=number or None, type=ComponentType.DATA, bom_ref=ref)


def _libraries(environment: str) -> Iterable[Any]:
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    for name, number in sorted(set(_LOCKED.findall(environment))):
        purl = PackageURL("pypi", None, re.sub(r"[-_.]+", "-", name).lower(), number)
        yield Component(name=name, version=number, type=ComponentType.LIBRARY, bom_ref=str(purl), purl=purl)


def _card(version: ModelVersion, manifest: BundleManifest) -> dict[str, Any]:
    """The parts of a card that CycloneDX has a place for; the Python library does not write them yet."""
    parameters: dict[str, Any] = {
        "approach": {"type": "supervised"},
        "task": _TASKS.get(manifest.task, "other"),
        "inputs": [{"format": f"{item.name}: {item.dtype}"} for item in manifest.signature.inputs],
        "outputs": [{"format": f"{item.name}: {item.dtype}"} for item in manifest.signature.outputs],
    }
    if version.training_data:
        parameters["datasets"] = [{"ref": ref} for ref in version.training_data]
    if manifest.task is Task.OTHER:
        del parameters["approach"]
    card: dict[str, Any] = {"modelParameters": parameters}
    if version.metrics:
        card["quantitativeAnalysis"] = {
            "performanceMetrics": [
                {"type": name, "value": f"{value:.10g}"} for name, value in sorted(version.metrics.items())
            ]
        }
    return card
