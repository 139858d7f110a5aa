"""What of an endpoint's answers is logged: the share of rows, and the inputs that the log must not show."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, update

from loopwright.core import Conflict, Invalid, Scope
from loopwright.models import ModelService
from loopwright.release.model import Endpoint, Share
from loopwright.release.publishing import raise_revision
from loopwright.release.tables import endpoints
from loopwright.serve import LogPolicy
from loopwright.store import Stores


def policy_of(sample: float, drop: list[str], hash: list[str], keys: str) -> LogPolicy:
    """A policy as it was asked for.

    Raises:
        Invalid: the share is none, an input is both dropped and hashed, or `keys` is no word of it.
    """
    both = sorted(set(drop) & set(hash))
    if both:
        raise Invalid(f"{', '.join(map(repr, both))} cannot be both dropped and hashed", next_step="name it once")
    if not 0.0 <= sample <= 1.0:
        raise Invalid(f"sample is {sample:g}", next_step="give the share of rows that is logged, 0 to 1")
    given = {"sample": sample, "drop": sorted(set(drop)), "hash": sorted(set(hash)), "keys": keys}
    try:
        return msgspec.convert(given, LogPolicy)
    except msgspec.ValidationError as error:
        raise Invalid(f"the log policy cannot be read: {error}", next_step="keys is keep, hash or drop") from None


def check_names(policy: LogPolicy, shares: tuple[Share, ...], models: ModelService, endpoint: str) -> None:
    """Refuse a policy for inputs that no version takes: a misspelt or renamed one would be logged in the clear.

    Raises:
        Invalid: such a name is told, with those that there are.
    """
    named = {*policy.drop, *policy.hash}
    if not named or not shares:
        return
    taken = {name for share in shares for name in models.manifest(share.model).signature.names}
    if unknown := sorted(named - taken):
        raise Invalid(
            f"the log policy of endpoint {endpoint!r} names {', '.join(map(repr, unknown))}, which no version takes",
            next_step=f"the inputs are {', '.join(sorted(taken))}; loopwright endpoints set-log {endpoint} …",
        )


def change_policy(stores: Stores, tx: Connection, scope: Scope, endpoint: Endpoint, policy: LogPolicy) -> None:
    """Give an endpoint another policy, within the caller's transaction (event endpoint.log_set).

    Raises:
        Conflict: somebody else changed the endpoint since it was read.
    """
    values = {"log": msgspec.to_builtins(policy), "revision": endpoint.revision + 1}
    same = (endpoints.c.name == endpoint.name) & (endpoints.c.revision == endpoint.revision)
    if tx.execute(update(endpoints).where(same).values(**values)).rowcount != 1:
        raise Conflict(f"endpoint {endpoint.name!r} was changed by somebody else", next_step="try again")
    raise_revision(stores.db, tx)
    told = {"before": msgspec.to_builtins(endpoint.log), "after": values["log"]}
    stores.events.append(tx, "endpoint.log_set", f"endpoint:{endpoint.name}", scope, told)
