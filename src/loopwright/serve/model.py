"""The words of this room: what is served, to whom, and what is kept of each answer."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from loopwright.core import Invalid, check_name, is_digest, parse_ref


class Variant(msgspec.Struct, frozen=True):
    """One model version behind an endpoint.

    Attributes:
        name: such as `champion` or `candidate`; a key stays with a variant by this name.
        model: the ref of the version, `model:delay@3`.
        bundle: the digest of its bundle in the object store.
        weight: its share of the answers, relative to the other variants; 0 takes it out.
        shadow: it answers every row too, unseen by the caller, into the log only. Its weight means nothing.
        signatures: the digests, in the object store, of the signatures over its bundle.
    """

    name: str
    model: str
    bundle: str
    weight: float = 1.0
    shadow: bool = False
    signatures: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """The number of the model version, as the protocols write it."""
        return parse_ref(self.model, "model").selector


class KeyLogging(StrEnum):
    """What the log has of the keys that rows are assigned by."""

    KEEP = "keep"
    HASH = "hash"
    DROP = "drop"


class LogPolicy(msgspec.Struct, frozen=True):
    """What of an endpoint's answers is logged.

    Attributes:
        sample: the share of rows, 0 to 1.
        drop: inputs that are left out, such as a name or an address.
        hash: inputs of which a hash is kept, with a key that never leaves the log's folder: equal values stay equal.
        keys: the same for the rows' keys.
    """

    sample: float = 1.0
    drop: tuple[str, ...] = ()
    hash: tuple[str, ...] = ()
    keys: KeyLogging = KeyLogging.KEEP


class ServedEndpoint(msgspec.Struct, frozen=True):
    """An address that answers.

    `salt` decides which keys go to which variant; `rollout` is the id of the rollout under way, if there is one;
    `project` is whose features are looked up and whose feedback it takes: empty where nobody has said.
    """

    name: str
    salt: str
    variants: tuple[Variant, ...]
    log: LogPolicy = LogPolicy()
    rollout: str = ""
    project: str = ""

    @property
    def live(self) -> tuple[Variant, ...]:
        """The variants whose answers callers see."""
        return tuple(item for item in self.variants if not item.shadow and item.weight > 0)

    @property
    def shadows(self) -> tuple[Variant, ...]:
        """The variants whose answers only the log sees."""
        return tuple(item for item in self.variants if item.shadow)


class ServingState(msgspec.Struct, frozen=True):
    """Everything that the inference process serves. A higher revision replaces a lower one."""

    revision: int
    endpoints: tuple[ServedEndpoint, ...] = ()

    def check(self) -> None:
        """Refuse a state that cannot be served.

        Raises:
            Invalid: a name, ref or digest is malformed or used twice, or an endpoint has no variant with a weight.
        """
        names = [endpoint.name for endpoint in self.endpoints]
        if len(set(names)) < len(names):
            raise Invalid("the serving state names an endpoint twice")
        for endpoint in self.endpoints:
            _check_endpoint(endpoint)


class PredictionStatus(StrEnum):
    OK = "ok"
    ERROR = "error"


class Prediction(msgspec.Struct, frozen=True):
    """One answer to one row, as the log keeps it.

    Attributes:
        id: minted by the server; feedback comes back under it.
        endpoint, variant, model: who answered; `model` is the version's ref.
        event_time, received_at: microseconds since 1970: when it happened, as the caller says, and when it came in.
        key: what the caller is assigned by; empty where none was given.
        columns, features: the names and values of the inputs, in order; None where one was missing.
        outputs: by name; empty where the model failed.
        latency_us: from the request's arrival to the moment before the answer was written to this log.
        shadow_of: the id of the answer that this shadow answer belongs to; empty for an answer that was given.
        rollout: the id of the rollout that was under way.
        error: why the model failed.
    """

    id: str
    endpoint: str
    variant: str
    model: str
    event_time: int
    received_at: int
    key: str
    columns: tuple[str, ...]
    features: list[Any]
    outputs: dict[str, Any]
    latency_us: int
    status: PredictionStatus = PredictionStatus.OK
    shadow_of: str = ""
    rollout: str = ""
    error: str = ""

    @property
    def shadow(self) -> bool:
        """Whether no caller saw this answer."""
        return bool(self.shadow_of)


def _check_endpoint(endpoint: ServedEndpoint) -> None:
    check_name("endpoint", endpoint.name)
    names = [variant.name for variant in endpoint.variants]
    if len(set(names)) < len(names):
        raise Invalid(f"endpoint {endpoint.name!r} names a variant twice")
    if not endpoint.live:
        raise Invalid(f"endpoint {endpoint.name!r} has no variant with a weight above 0")
    for variant in endpoint.variants:
        check_name("variant", variant.name)
        if parse_ref(variant.model, "model").version is None:
            raise Invalid(f"variant {variant.name!r} of {endpoint.name!r} names no version: {variant.model!r}")
        if not is_digest(variant.bundle):
            raise Invalid(f"variant {variant.name!r} of {endpoint.name!r} has no bundle digest: {variant.bundle!r}")
        if not 0.0 <= variant.weight < float("inf"):
            raise Invalid(f"variant {variant.name!r} of {endpoint.name!r} has weight {variant.weight}")
