"""What a project declares: entities, feature views, request views and feature services. Feast's words and meaning.

airport = Entity("airport", keys=["origin"])
weather = FeatureView("weather", airport, "dataset:weather", timestamp="time_hour",
                      features={"temp": "temp", "gusty": pl.col("wind_gust").is_not_null()}, ttl=timedelta(hours=6))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from loopwright.core import Invalid, check_name, parse_ref
from loopwright.data import freeze, thaw
from loopwright.features.row_wise import is_row_wise

if TYPE_CHECKING:
    import polars as pl

    Transform = Callable[[pl.LazyFrame], pl.LazyFrame]


@dataclass(frozen=True)
class Entity:
    """What features are about: an airport, a customer. `keys` are the columns that name one.

    Raises:
        Invalid: the name is not allowed, or there is no key.
    """

    name: str
    keys: Sequence[str] = ()
    description: str = ""

    def __post_init__(self) -> None:
        check_name("entity", self.name)
        keys = (self.keys,) if isinstance(self.keys, str) else tuple(self.keys or (self.name,))
        if len(set(keys)) != len(keys):
            raise Invalid(f"entity {self.name!r} names a key twice", next_step="name each key column once")
        object.__setattr__(self, "keys", keys)


class FeatureView:
    """Features of an entity over time, computed from a dataset.

    The value of a feature at a time is that of the entity's row with the latest `timestamp` not after it, among the
    rows that were known by then. The same row-wise expressions compute it in batch, on push and at request time.

    Attributes:
        name, entity, description: how it is called, and what it is about.
        source: the dataset's name.
        timestamp: the column that tells when a row became true.
        known_at: the column that tells when a row became known, where that is later than `timestamp`.
        features: feature name -> expression over one row, as text that can be kept.
        transform: computes the rows from the dataset's, where that takes more than one row (aggregates, joins). The
            rows must have the keys and the timestamp; the timestamp must be the time at which the row's values were all
            known, unless `known_at` tells.
        ttl: how long a value stays good; None for ever.
        lookback: how far behind a row of the dataset `transform` must see to compute all that depends on that row, so
            that materialising reads no more. What it makes must not be true before the rows that it is made from.
        source_timestamp: the time column of the dataset that `lookback` looks at, where it is not `timestamp`.
        defaults: feature -> what takes the place of a missing value, in training and in serving alike.
        required: an endpoint refuses a request for an entity of which nothing is known, or nothing fresh enough;
            otherwise its features are missing, or as `defaults` says.
    """

    def __init__(
        self,
        name: str,
        entity: Entity | str,
        source: str,
        timestamp: str,
        features: Sequence[str] | Mapping[str, pl.Expr | str],
        *,
        transform: Transform | None = None,
        ttl: timedelta | None = None,
        known_at: str | None = None,
        lookback: timedelta | None = None,
        source_timestamp: str = "",
        defaults: Mapping[str, str | int | float | bool] | None = None,
        required: bool = False,
        description: str = "",
    ) -> None:
        """Args:
        entity: or its name, which is then its only key.
        source: `dataset:weather` or `weather`.
        features: columns to take as they are, or name -> Polars expression or SQL text.

        Raises:
            Invalid: a name is not allowed, an expression looks beyond its row, a duration is not positive, or a default
                is of a feature that there is not.
        """
        self.name = check_name("feature view", name)
        self.entity = Entity(entity) if isinstance(entity, str) else entity
        self.source = parse_ref(source, "dataset").name
        self.timestamp, self.known_at, self.transform = timestamp, known_at, transform
        self.features = _frozen(name, features)
        self.ttl, self.lookback, self.description = ttl, lookback, description
        self.source_timestamp = source_timestamp or timestamp
        self.defaults, self.required = dict(defaults or {}), required
        for word, span in (("ttl", ttl), ("lookback", lookback)):
            if span is not None and span <= timedelta(0):
                raise Invalid(f"{word} of feature view {name!r} is {span}", next_step="give a positive duration")
        if strange := sorted(self.defaults.keys() - self.features.keys()):
            raise Invalid(
                f"feature view {name!r} has a default for {strange[0]!r}, which is none of its features",
                next_step=f"its features are {', '.join(self.features)}",
            )
        taken = {*self.keys, timestamp, known_at or timestamp} & set(self.features)
        if taken:
            raise Invalid(
                f"feature view {name!r} has a feature called as its key or time: {', '.join(map(repr, sorted(taken)))}",
                next_step="give the feature another name",
            )

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns that name one entity."""
        return tuple(self.entity.keys)

    def expressions(self) -> list[pl.Expr]:
        """The features' expressions, each under its name."""
        return [thaw(text).alias(name) for name, text in self.features.items()]

    def __repr__(self) -> str:
        return f"FeatureView({self.name!r}, {self.entity.name!r}, {list(self.features)})"


class RequestView:
    """Features computed from the request's own values and from other features, one row at a time.

    Raises:
        Invalid: a name is not allowed, or an expression looks beyond its row.
    """

    def __init__(self, name: str, features: Mapping[str, pl.Expr | str], *, description: str = "") -> None:
        """Args:
        features: name -> Polars expression or SQL text over the request's columns and the features before it.
        """
        self.name = check_name("feature view", name)
        self.features = _frozen(name, features)
        self.description = description
        self._thawed: list[pl.Expr] | None = None  # a server asks for them with each turn

    def expressions(self) -> list[pl.Expr]:
        """The features' expressions, each under its name."""
        if self._thawed is None:
            self._thawed = [thaw(text).alias(name) for name, text in self.features.items()]
        return self._thawed

    def __repr__(self) -> str:
        return f"RequestView({self.name!r}, {list(self.features)})"


class FeatureService:
    """The features that a model takes, in order: `view:feature`, or `view` for all of a view's."""

    def __init__(
        self, name: str, features: Sequence[str | FeatureView | RequestView], *, description: str = ""
    ) -> None:
        """Raises:
        Invalid: the name is not allowed, or no feature is named.
        """
        self.name = check_name("feature service", name)
        self.features = tuple(item if isinstance(item, str) else item.name for item in features)
        self.description = description
        if not self.features:
            raise Invalid(f"feature service {name!r} names no feature", next_step="name features as 'view:feature'")

    def __repr__(self) -> str:
        return f"FeatureService({self.name!r}, {list(self.features)})"


Definition = Entity | FeatureView | RequestView | FeatureService


def _frozen(view: str, features: Sequence[str] | Mapping[str, pl.Expr | str]) -> dict[str, str]:
    import polars as pl

    given = dict(features) if isinstance(features, Mapping) else {name: pl.col(name) for name in features}
    if not given:
        raise Invalid(f"feature view {view!r} has no features", next_step="name at least one")
    frozen = {}
    for name, expression in given.items():
        if not isinstance(name, str) or not name or ":" in name or name.startswith("__"):
            raise Invalid(f"{name!r} cannot name a feature of {view!r}", next_step="use letters, digits and '_'")
        frozen[name] = freeze(expression)
        if not is_row_wise(thaw(frozen[name])):
            raise Invalid(
                f"feature {name!r} of {view!r} looks beyond its row, so a single request could not compute it",
                next_step="compute it in transform=, and name the resulting column as the feature",
            )
    return frozen
