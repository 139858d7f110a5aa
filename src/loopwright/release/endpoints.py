"""Endpoints: addresses that answer predictions, and the share of traffic that each version gets."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import Connection, select

from loopwright.core import Conflict, Invalid, Scope, check_name, new_id, operation, parse_ref
from loopwright.models import ModelService
from loopwright.release.logging_policy import change_policy, check_names, policy_of
from loopwright.release.model import Endpoint, Share
from loopwright.release.publishing import publish, raise_revision, served_state, serving_revision, serving_stamp
from loopwright.release.tables import endpoints
from loopwright.release.traffic import change_traffic, endpoint_of, find_endpoint
from loopwright.store import Stores

if TYPE_CHECKING:
    from loopwright.serve import ServingState

Endpoints = list[Endpoint]
Names = list[str]
_SUM_TOLERANCE = 1e-6


class EndpointService:
    """Creates endpoints and sets their traffic. What it says is served is published before it returns. Thread-safe."""

    def __init__(self, stores: Stores, scope: Scope, *, models: ModelService) -> None:
        self.stores, self.scope, self.models = stores, scope, models

    @operation("endpoints.create", permission="endpoints:write", effect="write")
    def create(self, name: str, model: str) -> Endpoint:
        """Create an endpoint, or return it if it is there with the same model.

        Args:
            name: its name; unique in the workspace, since it is a part of the address.
            model: the registered model that it serves, such as `delay`; with a version (`model:delay@3`) that version
                takes all traffic at once, otherwise the endpoint waits for its first release.

        Raises:
            Invalid: a name is malformed.
            NotFound: there is no such model version.
            Conflict: the name is taken by another project or for another model.
        """
        check_name("endpoint", name)
        ref = parse_ref(model, "model")
        share = self._share(model) if ref.selector else None
        created = self._create(name, ref.name)
        if share is not None and not created.shares:
            with self.stores.db.begin() as tx:
                created = self._set(tx, name, (share,), "the endpoint was created with it")
        publish(self.stores)
        return created

    @operation("endpoints.list", permission="endpoints:read")
    def list(self) -> Endpoints:
        """All endpoints of the project, by name."""
        query = select(endpoints).where(endpoints.c.project == self.scope.project).order_by(endpoints.c.name)
        with self.stores.db.read() as connection:
            return [endpoint_of(row) for row in connection.execute(query)]

    @operation("endpoints.get", permission="endpoints:read")
    def get(self, name: str) -> Endpoint:
        """One endpoint.

        Raises:
            NotFound: there is none of that name.
        """
        with self.stores.db.read() as connection:
            return find_endpoint(connection, self.scope, name)

    @operation("endpoints.set_traffic", permission="endpoints:write", effect="write")
    def set_traffic(self, name: str, shares: dict[str, float], reason: str = "") -> Endpoint:
        """Set the shares by hand; the version with the largest share becomes the stable one.

        Args:
            name: the endpoint.
            shares: model ref → share; the shares add up to 1.
            reason: why; it is kept in the event.

        Raises:
            NotFound: there is no such endpoint or model version.
            Invalid: the shares do not add up to 1, a version is of another model, or none of them takes an input that
                the log must not have in the clear.
            Conflict: a rollout decides over this endpoint; roll it back first.
        """
        _check_shares(shares)
        given = tuple(self._share(model, weight) for model, weight in shares.items())
        check_names(self.get(name).log, given, self.models, name)
        with self.stores.db.begin() as tx:
            changed = self._set(tx, name, given, reason or "set by hand")
        publish(self.stores)
        return changed

    @operation("endpoints.set_log", permission="endpoints:write", effect="write")
    def set_log(
        self, name: str, sample: float = 1.0, drop: Names | None = None, hash: Names | None = None, keys: str = "keep"
    ) -> Endpoint:
        """Say what of an endpoint's answers is logged from now on; what is not given goes back to its default.

        Args:
            name: the endpoint.
            sample: the share of rows that is logged, 0 to 1; answers to the others have no id, and take no feedback.
            drop: inputs that the log does not have, such as an address of a person.
            hash: inputs of which it has a keyed hash: equal values stay equal; the key stays in the log's folder.
            keys: what it has of the keys that rows are assigned by: keep, hash or drop.

        Raises:
            NotFound: there is no such endpoint.
            Invalid: the share is none, or no version takes an input of that name.
            Conflict: somebody else changed the endpoint meanwhile.
        """
        policy = policy_of(sample, drop or [], hash or [], keys)
        check_names(policy, self.get(name).shares, self.models, name)
        with self.stores.db.begin() as tx:
            change_policy(self.stores, tx, self.scope, find_endpoint(tx, self.scope, name), policy)
        publish(self.stores)
        return self.get(name)

    @operation("endpoints.roll_back", permission="endpoints:write", effect="write")
    def roll_back(self, name: str, reason: str = "") -> Endpoint:
        """Go back to the version before: end the rollout that is under way, or undo the last release.

        Raises:
            NotFound: there is no such endpoint.
            Conflict: no version was there before.
        """
        from loopwright.release.rollouts import RolloutService

        rollouts = RolloutService(self.stores, self.scope, endpoints=self, models=self.models)
        rollouts.undo(name, reason or "rolled back by hand")
        return self.get(name)

    def projects(self) -> Names:
        """The projects that have endpoints: where there is something to look after."""
        with self.stores.db.read() as connection:
            return sorted(connection.execute(select(endpoints.c.project).distinct()).scalars())

    def serving_revision(self) -> int:
        """How often what is served has changed, in all projects."""
        return serving_revision(self.stores)

    def serving_stamp(self) -> tuple[int, int, datetime | None]:
        """What changes whenever what is served has to be published again."""
        return serving_stamp(self.stores)

    def publish(self) -> ServingState:
        """Write what is served to the file that the inference process follows; idempotent."""
        return publish(self.stores)

    def served(self) -> ServingState:
        """What is served now, of all projects."""
        return served_state(self.stores)

    def _create(self, name: str, model: str) -> Endpoint:
        row = {
            "name": name,
            "project": self.scope.project,
            "model": model,
            "salt": new_id(),
            "stable": "",
            "previous": "",
            "shares": [],
            "rollout": "",
            "revision": 0,
            "created_at": self.stores.clock.now(),
            "actor": self.scope.actor,
            "log": {},
        }
        with self.stores.db.begin() as tx:
            insert = self.stores.db.upsert(endpoints, row, ["name"]).returning(endpoints.c.name)
            added = tx.execute(insert).first() is not None
            found = endpoint_of(tx.execute(select(endpoints).where(endpoints.c.name == name)).one())
            if (found.project, found.model) != (self.scope.project, model):
                raise Conflict(
                    f"the endpoint {name!r} exists already, for another model", next_step="choose another name"
                )
            if added:
                raise_revision(self.stores.db, tx)
                self.stores.lineage.node(tx, f"endpoint:{name}", attrs={"model": model}, project=self.scope.project)
                told = {"model": f"model:{model}"}
                self.stores.events.append(tx, "endpoint.created", f"endpoint:{name}", self.scope, told)
        return found

    def _set(self, tx: Connection, name: str, shares: tuple[Share, ...], reason: str) -> Endpoint:
        endpoint = find_endpoint(tx, self.scope, name)
        if endpoint.rollout:
            raise Conflict(
                f"rollout {endpoint.rollout} decides over the traffic of endpoint {endpoint.name!r}",
                next_step=f"loopwright endpoints roll-back {endpoint.name}",
            )
        for share in shares:
            if parse_ref(share.model, "model").name != endpoint.model:
                raise Invalid(
                    f"{share.model} is not a version of model:{endpoint.model}", where=f"endpoint {endpoint.name}"
                )
        stable = max(shares, key=lambda share: share.weight).model
        change_traffic(
            self.stores,
            tx,
            self.scope,
            endpoint,
            shares=shares,
            stable=stable,
            rollout="",
            reason=reason,
            cause=self.scope.cause,
        )
        return find_endpoint(tx, self.scope, name)

    def _share(self, model: str, weight: float = 1.0) -> Share:
        version = self.models.servable(model)
        return Share(version.ref, version.bundle, weight)


def _check_shares(shares: dict[str, float]) -> None:
    total = sum(shares.values())
    if not shares or min(shares.values()) < 0 or abs(total - 1.0) > _SUM_TOLERANCE:
        raise Invalid(
            f"the shares add up to {total:g}", where="shares", next_step="give shares from 0 to 1 that add up to 1"
        )
