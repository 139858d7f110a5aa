"""A version that holds an MLflow folder gets a sibling that can be served: the folder, built into a bundle."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.core import Conflict
from loopwright.models.building import build_bundle
from loopwright.models.model import Kind, ModelVersion
from loopwright.models.service import ModelService

if TYPE_CHECKING:
    import polars as pl


def rebuild_version(models: ModelService, ref: str, sample: pl.DataFrame, **options: Any) -> ModelVersion:
    """Build a bundle from the MLflow folder that a version holds, and register it as the newest of the same name.

    The new version keeps the old one's run, metrics, training data and tags, and says in the tag `rebuilt_from` where
    it comes from; the old one stays as it is.

    Args:
        models: the registry.
        ref: the version.
        sample: rows with the model's inputs, for the proof.
        options: as `build_bundle` takes them, `allow_pickle` among them.

    Raises:
        NotFound: there is no such version.
        Conflict: it holds no MLflow folder.
        Invalid: the folder does not become a bundle.
    """
    from loopwright.store import checkout

    held = models.get(ref)
    if held.kind is not Kind.MLFLOW:
        raise Conflict(
            f"{held.ref} holds no MLflow folder", next_step="only a version registered through MLflow's API has one"
        )
    with tempfile.TemporaryDirectory(prefix="loopwright-rebuild-") as place:
        folder = Path(place) / "mlflow"
        checkout(models.stores.objects, held.bundle, folder)
        made = build_bundle(folder, sample, **options, folder=Path(place) / "bundle")
        return models.register(
            held.name,
            made,
            run=held.run,
            metrics=held.metrics,
            training_data=held.training_data,
            tags={**held.tags, "rebuilt_from": held.ref},
            description=held.description,
        )
