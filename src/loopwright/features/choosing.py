"""Which features were asked for, view by view."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loopwright.core import Invalid, NotFound
from loopwright.features.definitions import FeatureService, FeatureView, RequestView

Asked = Sequence["str | FeatureView | RequestView"] | FeatureService | str


@dataclass(frozen=True)
class Chosen:
    """A view and the features asked of it.

    Attributes:
        columns: feature -> name of its column in the answer.
    """

    view: FeatureView | RequestView
    columns: dict[str, str]


def choose(
    asked: Asked,
    service: Callable[[str], FeatureService],
    view: Callable[[str], FeatureView | RequestView],
    full_names: bool,
) -> list[Chosen]:
    """The views and features that were asked for, in order, each view once; request views come last.

    Args:
        asked: `view:feature`, `view` or view objects, or a service, or a service's name.
        full_names: call columns `view__feature`.

    Raises:
        NotFound: there is no such view, feature or service.
        Invalid: two features would have the same column.
    """
    if isinstance(asked, str):
        asked = service(asked)
    items = asked.features if isinstance(asked, FeatureService) else asked
    found: dict[str, Chosen] = {}
    for item in items:
        name, _, feature = item.partition(":") if isinstance(item, str) else (item.name, "", "")
        if name not in found:
            found[name] = Chosen(view(name) if isinstance(item, str) else item, {})
        chosen = found[name]
        for one in [feature] if feature else list(chosen.view.features):
            if one not in chosen.view.features:
                known = ", ".join(chosen.view.features)
                raise NotFound(f"feature view {name!r} has no feature {one!r}", next_step=f"it has {known}")
            chosen.columns[one] = f"{name}__{one}" if full_names else one
    _refuse_clashes(list(found.values()))
    return sorted(found.values(), key=lambda chosen: isinstance(chosen.view, RequestView))


def _refuse_clashes(chosen: list[Chosen]) -> None:
    owners: dict[str, str] = {}
    for one in chosen:
        for column in one.columns.values():
            if column in owners:
                raise Invalid(
                    f"views {owners[column]!r} and {one.view.name!r} both have a feature {column!r}",
                    next_step="pass full_names=True to get view__feature",
                )
            owners[column] = one.view.name
