"""What a ref says is to be served: a registered model at a version or alias, or an endpoint with its traffic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Protocol

from loopwright.core import Conflict, Invalid, NotFound, Ref, check_name, parse_ref
from loopwright.models import BundleManifest, Kind, Model, ModelVersion
from loopwright.release.model import Endpoint
from loopwright.release.publishing import variants_of
from loopwright.serve import ServedEndpoint, Variant

_MOST_SHOWN = 8


class Models(Protocol):
    """Of the registry, what is asked here; the service of a local or a remote workspace."""

    def get(self, ref: str) -> ModelVersion: ...

    def manifest(self, ref: str) -> BundleManifest: ...

    def list(self, limit: int = ..., after: str = ...) -> Sequence[Model]: ...


class Endpoints(Protocol):
    """Of the endpoints, what is asked here; the service of a local or a remote workspace."""

    def get(self, name: str) -> Endpoint: ...

    def list(self) -> Sequence[Endpoint]: ...


def find_served(text: str, models: Models, endpoints: Endpoints) -> Ref:
    """The ref of what somebody wants to have served.

    Args:
        text: `model:delay`, `model:delay@3`, `model:delay@champion`, `endpoint:delay`; or a short form of these, as
            long as it means one thing.

    Raises:
        NotFound: there is neither a model nor an endpoint of that name; those with names like it are told.
        Conflict: there are both.
        Invalid: the text is malformed, or of another kind.
    """
    kind = text.partition(":")[0] if ":" in text else ""
    if kind in ("model", "endpoint"):
        return parse_ref(text, kind)
    if kind:
        raise Invalid(f"{text!r} cannot be served", next_step="give model:NAME[@VERSION|@ALIAS] or endpoint:NAME")
    if "@" in text:
        return parse_ref(text, "model")
    kinds = [kind for kind, ask in (("model", models.get), ("endpoint", endpoints.get)) if _is_there(ask, text)]
    if len(kinds) == 2:
        raise Conflict(
            f"{text!r} is a model and an endpoint",
            next_step=f"say model:{text} for its newest version, or endpoint:{text} for its traffic",
        )
    if not kinds:
        raise _unknown(text, models, endpoints)
    return parse_ref(text, kinds[0])


def served_by(ref: Ref, models: Models, endpoints: Endpoints) -> ServedEndpoint:
    """What is to be served of a ref now.

    Raises:
        NotFound: it is not there; those with names like it are told.
        Conflict: the version holds no bundle, or the endpoint has no version yet.
        Invalid: the model's name cannot stand in an address.
    """
    if ref.kind == "endpoint":
        return _endpoint(ref, models, endpoints)
    try:
        version = models.get(str(ref))
    except NotFound as error:
        if _is_there(models.get, f"model:{ref.name}"):
            raise
        raise _unknown(ref.name, models, endpoints) from error
    if version.kind is not Kind.BUNDLE:
        models.manifest(version.ref)  # says what it holds in place of a bundle
    check_name("model that is served", version.name)
    signatures = tuple(item.signature for item in version.signatures)
    variant = Variant(f"v{version.version}", version.ref, version.bundle, signatures=signatures)
    return ServedEndpoint(version.name, salt=version.name, variants=(variant,))


def _endpoint(ref: Ref, models: Models, endpoints: Endpoints) -> ServedEndpoint:
    try:
        found = endpoints.get(ref.name)
    except NotFound as error:
        raise _unknown(ref.name, models, endpoints) from error
    if not found.shares:
        raise Conflict(
            f"endpoint {found.name!r} has no version yet",
            next_step=f"loopwright endpoints set-traffic {found.name} …, or serve model:{found.model}",
        )
    signed = {share.bundle: models.get(share.model).signatures for share in found.shares}
    return ServedEndpoint(found.name, found.salt, variants_of(found.shares, signed), found.log, found.rollout)


def _is_there(ask: Callable[[str], object], name: str) -> bool:
    try:
        ask(name)
    except NotFound:
        return False
    return True


def _unknown(name: str, models: Models, endpoints: Endpoints) -> NotFound:
    known = [f"model:{item.name}" for item in models.list(limit=1000)]
    known += [f"endpoint:{item.name}" for item in endpoints.list()]
    plain = {item.partition(":")[2]: item for item in reversed(known)}
    close = [plain[found] for found in get_close_matches(name, plain, _MOST_SHOWN, 0.5)]
    shown = close or known[:_MOST_SHOWN]
    hint = f"there {'is' if len(shown) == 1 else 'are'} {', '.join(shown)}" if shown else "no model is registered yet"
    return NotFound(f"there is no model and no endpoint {name!r}", next_step=hint)
