"""The nodes of trees, from the lists of an ONNX operator to the arrays that the compiled part walks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loopwright.models.tree_graph import MODES, Node, Unreadable

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

LEAF, _LEQ, _LT, _GTE, _GT, _EQ, _NEQ = range(len(MODES))
_MISSING_KEY, _NO_KEY = 0xFFFFFFFF, 0x007FFFFE  # the key of NaN, and one that no number has
_MOST_DEPTH, _MOST_NODES = 4096, 1 << 26
_MOST_SUM = 1e37


def laid_out(node: Node, width: int, targets: int) -> tuple[Array, ...]:
    """The arrays that the compiled part takes: nodes, roots, columns, first weights, their targets, weights."""
    import numpy as np

    given = node.attributes
    names = ("treeids", "nodeids", "featureids", "truenodeids", "falsenodeids")
    tree, ids, feature, then, otherwise = (list_of(given, f"nodes_{name}") for name in names)
    modes, values = list_of(given, "nodes_modes"), list_of(given, "nodes_values")
    missing = given.get("nodes_missing_value_tracks_true", np.zeros(len(tree), dtype=np.int64))
    lists = (tree, ids, feature, then, otherwise, modes, values, missing)
    if any(len(item) != len(tree) for item in lists) or not 0 < len(tree) <= _MOST_NODES or modes.dtype != np.uint8:
        raise Unreadable("lists of several lengths")
    if any(item.min() < 0 or item.max() >= 1 << 31 for item in (tree, ids, feature, then, otherwise)):
        raise Unreadable("an identifier out of range")
    branch, keys = modes != LEAF, tree << 32 | ids
    sorted_at = np.argsort(keys, kind="stable")
    right, left = np.zeros(len(tree), dtype=np.int64), np.zeros(len(tree), dtype=np.int64)
    right[branch] = _places(keys, sorted_at, tree[branch] << 32 | then[branch])
    left[branch] = _places(keys, sorted_at, tree[branch] << 32 | otherwise[branch])
    roots = np.flatnonzero(np.concatenate([[True], tree[1:] != tree[:-1]]))
    if len(np.unique(tree[roots])) != len(roots):
        raise Unreadable("a tree in two parts")
    order, starts = _in_order(roots, left, right, branch)
    columns = np.unique(feature[branch]) if branch.any() else np.zeros(1, dtype=np.int64)
    if columns[-1] >= width:
        raise Unreadable("a node reads a column that is not there")
    place = np.empty(len(tree), dtype=np.int64)
    place[order] = np.arange(len(tree))
    low, high = _intervals(modes, values, missing == 1)
    table = np.zeros((len(tree), 4), dtype=np.uint32)
    table[:, 0], table[:, 1] = np.where(branch, low, 0), np.where(branch, high - low, 0)
    table[:, 2] = np.where(branch, np.searchsorted(columns, feature.clip(0, columns[-1])), 0)
    table[:, 3] = np.where(branch, place[left], place)
    weights = _weights(given, keys, sorted_at, branch, place, targets)
    return table[order], starts.astype(np.uint32), columns.astype(np.uint32), *weights


def _places(keys: Array, sorted_at: Array, wanted: Array) -> Array:
    """Where nodes stand in the lists.

    Raises:
        Unreadable: one is not there, or is there twice.
    """
    import numpy as np

    ordered = keys[sorted_at]
    at = np.searchsorted(ordered, wanted).clip(0, len(keys) - 1)
    if (ordered[1:] == ordered[:-1]).any() or (ordered[at] != wanted).any():
        raise Unreadable("a node that is not there, or twice")
    return np.asarray(sorted_at[at])


def _in_order(roots: Array, left: Array, right: Array, branch: Array) -> tuple[Array, Array]:
    """The nodes tree by tree and level by level, children side by side; and where each tree begins.

    Raises:
        Unreadable: a node has two parents or none, or is deeper than any known learner makes one.
    """
    import numpy as np

    children = np.concatenate([left[branch], right[branch]])
    parents = np.bincount(children, minlength=len(left))
    if (parents > 1).any() or parents[roots].any() or len(children) + len(roots) != len(left):
        raise Unreadable("the nodes are no trees")
    level, owner = roots, np.arange(len(roots))
    levels, owners = [level], [owner]
    while len(inner := np.flatnonzero(branch[level])) and len(levels) <= _MOST_DEPTH:
        level, owner = np.stack([left[level[inner]], right[level[inner]]], axis=1).reshape(-1), owner[inner].repeat(2)
        levels.append(level)
        owners.append(owner)
    order, owner = np.concatenate(levels), np.concatenate(owners)
    if len(order) != len(left) or len(levels) > _MOST_DEPTH:
        raise Unreadable("nodes out of reach")
    sorted_at = np.argsort(owner, kind="stable")
    return order[sorted_at], np.searchsorted(owner[sorted_at], np.arange(len(roots)))


def _intervals(modes: Array, values: Array, missing: Array) -> tuple[Array, Array]:
    """The first and last key of those that go to the true side; where the last is the smaller one, it wraps around.

    Raises:
        Unreadable: a node sends a missing value and one number to its true side, which is no interval.
    """
    import numpy as np

    at = _keys(values)
    over = np.uint32(_MISSING_KEY)
    first = np.where(missing, over, np.uint32(0))
    last = np.where(missing, over, over - np.uint32(1))
    one = np.uint32(1)
    low = np.select([modes == _GTE, modes == _GT, modes == _EQ, modes == _NEQ], [at, at + one, at, at + one], first)
    high = np.select([modes == _LEQ, modes == _LT, modes == _EQ, modes == _NEQ], [at, at - one, at, at - one], last)
    if (missing & (modes == _EQ) & ~np.isnan(values)).any():
        raise Unreadable("missing values that equal a number")
    never = np.isnan(values) & (modes != LEAF)
    nothing = np.where(missing, over, np.uint32(_NO_KEY))
    low = np.where(never, np.where(modes == _NEQ, np.uint32(0), nothing), low)
    high = np.where(never, np.where(modes == _NEQ, over, nothing), high)
    return low.astype(np.uint32), high.astype(np.uint32)


def _keys(values: Array) -> Array:
    """Floats as whole numbers in their order, as the compiled part makes them; all NaN are the largest."""
    import numpy as np

    bits = np.where(values == 0.0, np.float32(0.0), values).view(np.uint32)
    keys = np.where(bits >> 31, ~bits, bits | np.uint32(0x80000000))
    return np.where(np.isnan(values), np.uint32(_MISSING_KEY), keys).astype(np.uint32)


def _weights(
    given: dict[str, Any], keys: Array, sorted_at: Array, branch: Array, place: Array, targets: int
) -> tuple[Array, Array, Array]:
    """Where each node's weights begin, the target of each weight, and the weight: in the order of the nodes."""
    import numpy as np

    kind = "class" if "class_ids" in given else "target"
    tree, ids, target = (list_of(given, f"{kind}_{name}") for name in ("treeids", "nodeids", "ids"))
    weights = list_of(given, f"{kind}_weights")
    if not len(tree) == len(ids) == len(target) == len(weights):
        raise Unreadable("lists of several lengths")
    if any(item.min() < 0 or item.max() >= 1 << 31 for item in (tree, ids, target)):
        raise Unreadable("an identifier out of range")
    at = _places(keys, sorted_at, tree << 32 | ids)
    if branch[at].any() or len(np.unique(at)) != int((~branch).sum()) or target.max() >= targets:
        raise Unreadable("weights that no leaf has, or leaves without")
    if not np.isfinite(weights).all() or np.abs(weights.astype(np.float64)).sum() > _MOST_SUM:
        raise Unreadable("weights beyond what float32 adds")
    order = np.argsort(place[at], kind="stable")
    first = np.searchsorted(place[at][order], np.arange(len(keys) + 1))
    return first.astype(np.uint32), target[order].astype(np.uint32), weights[order].astype(np.float32)


def list_of(given: dict[str, Any], name: str) -> Array:
    import numpy as np

    found = given.get(name)
    if not isinstance(found, np.ndarray):
        raise Unreadable(f"the trees have no {name}")
    return found
