"""The words of a search: what can be compared, how, and under which names, for runs and for experiments."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec


class Entity(StrEnum):
    METRIC = "metrics"
    PARAM = "params"
    TAG = "tags"
    METADATA = "metadata"
    ATTRIBUTE = "attributes"
    DATASET = "dataset"
    SPAN = "span"
    FEEDBACK = "feedback"
    EXPECTATION = "expectation"


class Operator(StrEnum):
    EQ = "="
    NE = "!="
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="
    LIKE = "LIKE"
    ILIKE = "ILIKE"
    IN = "IN"
    NOT_IN = "NOT IN"
    IS_NULL = "IS NULL"
    IS_NOT_NULL = "IS NOT NULL"


TEXT_OPERATORS = frozenset(
    {Operator.EQ, Operator.NE, Operator.LIKE, Operator.ILIKE, Operator.IN, Operator.NOT_IN},
)
NUMBER_OPERATORS = frozenset({Operator.EQ, Operator.NE, Operator.LT, Operator.LE, Operator.GT, Operator.GE})
EXACT_OPERATORS = frozenset(
    {Operator.EQ, Operator.NE, Operator.IN, Operator.NOT_IN, Operator.IS_NULL, Operator.IS_NOT_NULL}
)
PRESENCE = frozenset({Operator.IS_NULL, Operator.IS_NOT_NULL})


class Comparison(msgspec.Struct, frozen=True):
    """One condition. `value` is a number, a text, texts for IN and NOT IN, or None for IS NULL and IS NOT NULL."""

    entity: Entity
    key: str
    operator: Operator
    value: float | str | tuple[str, ...] | None


class SortKey(msgspec.Struct, frozen=True):
    """One key of an order; what has no value comes last either way."""

    entity: Entity
    key: str
    descending: bool = False


class Vocabulary(msgspec.Struct, frozen=True):
    """What one kind of thing can be searched by. Attributes are given by all their names, with that of the column.

    `may_miss` are the attributes that a thing may lack. `tags` are attributes that are kept as a tag of another name.
    """

    noun: str
    entities: Mapping[str, Entity]
    texts: Mapping[str, str]
    times: Mapping[str, str]
    may_miss: frozenset[str] = frozenset()
    tags: Mapping[str, str] = {}

    def attribute(self, name: str) -> str | None:
        """The column behind one of an attribute's names."""
        return self.texts.get(name) or self.times.get(name)

    def is_number(self, entity: Entity, key: str) -> bool:
        """Whether this is compared with numbers; times are, in milliseconds since 1970."""
        return entity is Entity.METRIC or (entity is Entity.ATTRIBUTE and key in self.times.values())

    def operators(self, entity: Entity, key: str) -> frozenset[Operator]:
        """How this can be compared."""
        if entity in (Entity.FEEDBACK, Entity.EXPECTATION):
            return EXACT_OPERATORS
        found = NUMBER_OPERATORS if self.is_number(entity, key) else TEXT_OPERATORS
        keyed = entity in (Entity.METRIC, Entity.PARAM, Entity.TAG, Entity.METADATA)
        return found | PRESENCE if keyed or (entity is Entity.ATTRIBUTE and key in self.may_miss) else found


_TAGS = dict.fromkeys(("tag", "tags"), Entity.TAG)
_ATTRIBUTES = dict.fromkeys(("attribute", "attributes", "attr"), Entity.ATTRIBUTE)
DATASET_KEYS = {"name": "dataset", "digest": "digest", "context": "context"}

RUNS = Vocabulary(
    noun="runs",
    entities={
        **dict.fromkeys(("metric", "metrics"), Entity.METRIC),
        **dict.fromkeys(("param", "params", "parameter", "parameters"), Entity.PARAM),
        **dict.fromkeys(("dataset", "datasets"), Entity.DATASET),
        **_TAGS,
        **_ATTRIBUTES,
        "run": Entity.ATTRIBUTE,
    },
    texts={
        **dict.fromkeys(("id", "run_id"), "id"),
        **dict.fromkeys(("name", "run_name", "run name", "Run name", "Run Name"), "name"),
        "actor": "actor",
        "status": "status",
        "kind": "kind",
        "parent": "parent",
        "artifact_uri": "artifact_uri",
    },
    times={
        **dict.fromkeys(("started_at", "start_time", "created", "Created"), "started_at"),
        **dict.fromkeys(("ended_at", "end_time"), "ended_at"),
    },
    may_miss=frozenset({"ended_at"}),
    tags=dict.fromkeys(("user_id", "User"), "mlflow.user"),
)

EXPERIMENTS = Vocabulary(
    noun="experiments",
    entities={**_TAGS, **_ATTRIBUTES, "experiment": Entity.ATTRIBUTE},
    texts={"name": "name", **dict.fromkeys(("id", "experiment_id"), "id")},
    times={
        **dict.fromkeys(("created_at", "creation_time"), "created_at"),
        **dict.fromkeys(("updated_at", "last_update_time"), "updated_at"),
    },
)
