"""The words of this room: signatures, bundles, parity, versions."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from loopwright.core import DType, digest_value, encode
from loopwright.models.findings import Scan

MANIFEST_FORMAT = 1
CODE_MANIFEST_FORMAT = 2
"""What a bundle says that holds a model in Python, or inputs with a shape: programs that know neither refuse it."""
READABLE_FORMATS = (MANIFEST_FORMAT, CODE_MANIFEST_FORMAT)


DATATYPES = {
    DType.BOOL: "BOOL",
    DType.INT64: "INT64",
    DType.FLOAT32: "FP32",
    DType.FLOAT64: "FP64",
    DType.STRING: "BYTES",
}
"""How the Open Inference Protocol names the types of inputs and outputs."""


class Task(StrEnum):
    """What a model answers, which fixes the names of its outputs.

    binary: `label`, and `probability` of the positive class (`classes[1]`). multiclass: `label`, `probabilities`
    (one per class, in the order of `classes`). regression: `value`. other: what the graph gives.
    """

    BINARY = "binary"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"
    OTHER = "other"


class Layout(StrEnum):
    """How the graph takes its inputs: as one matrix of float32 with a column per input, or as one tensor per input."""

    MATRIX = "matrix"
    COLUMNS = "columns"


class Input(msgspec.Struct, frozen=True, omit_defaults=True):
    """One input: a named value per row.

    `low` and `high` are the range, and `categories` the values (most frequent first), that training saw;
    `more_categories` says that training saw others than those listed. They describe, and refuse nothing.
    """

    name: str
    dtype: DType
    nullable: bool = False
    shape: tuple[int, ...] = ()
    low: float | None = None
    high: float | None = None
    categories: tuple[str, ...] = ()
    more_categories: bool = False


class Output(msgspec.Struct, frozen=True, omit_defaults=True):
    """One output: `shape` is that of one row's value, empty for a single number or string."""

    name: str
    dtype: DType
    shape: tuple[int, ...] = ()


class Signature(msgspec.Struct, frozen=True):
    """What a model takes and gives, per row."""

    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the inputs, in order."""
        return tuple(item.name for item in self.inputs)


class Parity(msgspec.Struct, frozen=True):
    """How the converted model compares with the original on sample rows, both fed the same float32 values.

    Attributes:
        rows: how many rows were compared; 0 where there is no original to compare with (a plain ONNX file).
        tolerance: a row agrees where |difference| <= tolerance + tolerance * |original| for each of its outputs.
        max_abs, max_rel: the largest differences over the rows that count.
        label_agreement: the share of rows with the same label, or with a tie for the label; 1.0 for regression.
        edge_rows: rows that differ only because they sit on a split of a tree: the original itself gives the
            converted model's answer when an input moves by a few units in the last place of float32.
        cast_agreement: the share of rows on which the converted model also agrees with the original fed the sample's
            own values, before the cast to float32.
    """

    rows: int
    tolerance: float
    max_abs: float
    max_rel: float
    label_agreement: float
    edge_rows: int
    cast_agreement: float
    passed: bool


class Runner(StrEnum):
    """How a model in Python is run, in a worker process of its own.

    predictor: a class of the bundle's own source. mlflow: a folder of MLflow's, by its `pyfunc`. pickle: an object with
    `predict`, unpickled in the worker. convert: no model, but the making of a graph from a pickle; in no bundle.
    """

    PREDICTOR = "predictor"
    MLFLOW = "mlflow"
    PICKLE = "pickle"
    CONVERT = "convert"


class Code(msgspec.Struct, frozen=True, omit_defaults=True):
    """What makes a bundle one that executes code.

    Attributes:
        runner: how it is run.
        entry: `module:Class`, or the pickle's file; empty for MLflow.
        pickles: the files that are pickles, as far as their names or first bytes tell.
        memory_bytes, call_timeout_s: what a worker may use for it, as its builder said; 0 for the usual.
    """

    runner: Runner
    entry: str = ""
    pickles: tuple[str, ...] = ()
    memory_bytes: int = 0
    call_timeout_s: float = 0.0


class BundleManifest(msgspec.Struct, frozen=True, kw_only=True):
    """`bundle.json`: everything about a bundle but its large files, which it names by digest.

    `tensors` names the graph's tensor for each input, where there is one per input (Layout.COLUMNS). `code` is there
    only where the model is Python instead of a graph. `features` has the refs of the feature views that the model's
    inputs came from, where the bundle brings their definitions. `seal` is the digest of all the rest of the manifest
    (`sealed`), so that a change is found where nobody has signed the bundle; bundles of before have none. It proves
    nothing of who made it: that is what a signature does.
    """

    manifest_format: int = MANIFEST_FORMAT
    format: str
    task: Task
    layout: Layout
    signature: Signature
    tensors: dict[str, str] = {}
    target: str = ""
    classes: tuple[str | int, ...] = ()
    parity: Parity
    created_at: datetime
    libraries: dict[str, str] = {}
    environment: str = ""
    files: dict[str, str] = {}
    training_data: tuple[str, ...] = ()
    metrics: dict[str, float] = {}
    code: Code | None = None
    features: tuple[str, ...] = ()
    seal: str = ""

    @property
    def executes_code(self) -> bool:
        """Whether answering runs code that the bundle brought: then a worker process does it."""
        return self.code is not None


def sealed(manifest: BundleManifest) -> BundleManifest:
    """A manifest with the digest of itself."""
    return msgspec.structs.replace(manifest, seal=seal_of(msgspec.json.decode(encode(manifest))))


def seal_of(about: dict[str, Any]) -> str:
    """The digest of a manifest as JSON has it, without the digest that it may hold already."""
    return digest_value({name: value for name, value in about.items() if name != "seal"})


class Kind(StrEnum):
    """What a version holds.

    bundle: a bundle of ours, proven and servable. mlflow: a folder as MLflow's client made it, kept as it is and never
    loaded by a server. elsewhere: nothing but the words where it is.
    """

    BUNDLE = "bundle"
    MLFLOW = "mlflow"
    ELSEWHERE = "elsewhere"


class Stage(StrEnum):
    """MLflow's stages, which it gave up for aliases; kept for those who use them."""

    NONE = "None"
    STAGING = "Staging"
    PRODUCTION = "Production"
    ARCHIVED = "Archived"


class Signed(msgspec.Struct, frozen=True):
    """A signature over a bundle.

    Attributes:
        key: the fingerprint of the key: the SHA-256 of its public half in PEM.
        signature: the digest, in the object store, of the signature itself.
        public_key: the key that it was verified with when it was brought, in PEM.
        signed_at, actor: when it was brought here, and by whom.
    """

    key: str
    signature: str
    public_key: str
    signed_at: datetime
    actor: str = ""


class ModelVersion(msgspec.Struct, frozen=True, kw_only=True):
    """One state of a registered name, of which `kind` says what it holds.

    Attributes:
        bundle: the digest of the tree in the object store; empty for a version that is elsewhere.
        source: where its maker says that it came from.
        run_link: an address of the run, for a run that is not ours.
        model_id: the logged model (of MLflow 3) that it was made from.
        stage: MLflow's stage.
        signatures: those over its bundle, by key; whose key is trusted is for the settings to say.
        scan: what of it can run code when it is loaded, and what that would do.
    """

    ref: str
    name: str
    version: int
    bundle: str
    task: Task
    run: str = ""
    training_data: tuple[str, ...] = ()
    metrics: dict[str, float] = {}
    tags: dict[str, str] = {}
    aliases: tuple[str, ...] = ()
    description: str = ""
    size_bytes: int = 0
    created_at: datetime
    updated_at: datetime | None = None
    actor: str = ""
    kind: Kind = Kind.BUNDLE
    source: str = ""
    run_link: str = ""
    model_id: str = ""
    stage: Stage = Stage.NONE
    signatures: tuple[Signed, ...] = ()
    scan: Scan = Scan()


class Model(msgspec.Struct, frozen=True):
    """A registered name."""

    name: str
    description: str
    created_at: datetime
    latest: int
    aliases: dict[str, int]
    tags: dict[str, str] = {}
    updated_at: datetime | None = None


class ModelPage(msgspec.Struct, frozen=True):
    """Registered names of one page; `next` asks for the page after it, and is empty on the last one."""

    models: list[Model]
    next: str = ""


class VersionPage(msgspec.Struct, frozen=True):
    """Versions of one page; `next` asks for the page after it, and is empty on the last one."""

    versions: list[ModelVersion]
    next: str = ""
