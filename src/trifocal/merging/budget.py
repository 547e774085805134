"""Thresholds for a number of tokens: one path through (spatial, temporal), and the exact count along it.

The path is `temporal = 2 * spatial - 1` (never below -1), from (1, 1), where nothing merges, to (-1, -1), where
everything does; it passes through the paper's (.80, .60) and (.75, .50). With the `directed` rule a node survives
unless some earlier node takes it, so the number of tokens at every point of the path is a sum of intervals, found by
sorting once (`trace`). `settle` takes the highest point whose count is within the budget, which makes the result
monotone in the budget. Where the count jumps there by more than a token per frame, or an exact count is asked for, it
takes the last point above the budget and joins the surplus nodes to their most similar candidate, best first. The other
rules have no such sum: they are bisected, and always filled up to the exact count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from trifocal.errors import InvalidInput
from trifocal.merging.config import NOTHING_MERGES
from trifocal.merging.grouping import Grouping, follow, group
from trifocal.merging.plan import Candidates, Selection, candidates, select

if TYPE_CHECKING:
    import numpy.typing as npt

    from trifocal.merging.similarity import Similarities
    from trifocal.merging.tree import Tree

    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.floating[Any]]

__all__ = ["BudgetPath", "Curve", "Settled", "count_at", "other_ways", "settle", "temporal_on_path", "trace"]

BudgetPath = Literal["both", "spatial"]


def temporal_on_path(spatial: float) -> float:
    """The temporal threshold that goes with a spatial one."""
    return min(max(2.0 * spatial - 1.0, -1.0), NOTHING_MERGES)


def other_ways(is_coarsest: bool, *, path: BudgetPath) -> str:
    """How fewer tokens than the root cells can be had after all; the end of a remedy that begins with giving more."""
    ways = [] if is_coarsest else ["start from a coarser level with root_level=0"]
    ways += ['join frames too with path="both"'] if path == "spatial" else []
    return f", or {' or '.join(ways)}" if ways else "; the root level is the coarsest of this grid already"


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Tokens against the path's position `s`: `counts[i]` for `points[i] >= s > points[i + 1]`, points descending."""

    points: npt.NDArray[np.float64]
    counts: Ints

    def at(self, positions: npt.NDArray[np.float64]) -> Ints:
        """Tokens at each of `positions`; below the last point nothing changes any more."""
        # The interval that holds s ends at the lowest point that is at least s.
        index = np.searchsorted(-self.points, -positions, side="right") - 1
        return self.counts[np.maximum(index, 0)]


@dataclass(frozen=True, slots=True, eq=False)
class Settled:
    """A budget met: thresholds, kept nodes, their representatives, and how many were joined beyond the thresholds."""

    spatial: float
    temporal: float | None
    selection: Selection
    representative: Ints
    extra_merges: int


def trace(similar: Similarities, support: Floats, *, path: BudgetPath) -> Curve:
    """Count the tokens of the `directed` rule at every point of the path."""
    tree = similar.tree
    upper, lower = _lifetimes(tree, support)
    alive = upper > lower
    starts, ends = [upper[alive]], [lower[alive]]
    signs = [np.ones(int(alive.sum()), np.int64)]
    if path == "both" and similar.frames > 1:
        for taken_from, taken_to in _taken(similar, upper, lower):
            starts.append(taken_from)
            ends.append(taken_to)
            signs.append(np.full(len(taken_from), -1, np.int64))
    begin, end, sign = (np.concatenate(part) for part in (starts, ends, signs))
    points, where = np.unique(np.concatenate([begin, end]), return_inverse=True)
    change = np.zeros(len(points), np.int64)
    np.add.at(change, where[: len(begin)], sign)
    np.add.at(change, where[len(begin) :], -sign)
    counts = np.cumsum(change[::-1])
    # The last point is -inf, where every interval has ended.
    return Curve(points=points[::-1][:-1], counts=counts[:-1])


def _lifetimes(tree: Tree, support: Floats) -> tuple[Floats, Floats]:
    """`(T, P)` each: a node is kept at `s` where `lower < s <= upper`."""
    frames = len(support)
    upper = np.concatenate([np.full((frames, tree.cell_count), np.inf), support], axis=1).astype(np.float64)
    upper = np.where(np.isnan(upper), -np.inf, upper)
    lower = np.full_like(upper, -np.inf)
    for up in range(tree.level_count - 1):
        below = tree.level > up
        lower[:, below] = np.maximum(lower[:, below], upper[:, tree.ancestor[below, up]])
    np.minimum(upper, NOTHING_MERGES, out=upper)
    return upper, np.minimum(lower, NOTHING_MERGES)


def _taken(similar: Similarities, upper: Floats, lower: Floats) -> list[tuple[Floats, Floats]]:
    """Disjoint intervals of the path in which a node is joined to an earlier one, as (upper ends, lower ends)."""
    tree, frames = similar.tree, similar.frames
    time = np.arange(frames - 1)
    later_key, begin, end = [], [], []
    for up in range(tree.level_count):
        for finer_is_later in (False, True):
            inside = np.flatnonzero(tree.level > up if finer_is_later else tree.level >= up)
            holder = tree.ancestor[inside, up]
            earlier, later = (holder, inside) if finer_is_later else (inside, holder)
            highest = np.minimum(upper[:-1, earlier], upper[1:, later])
            lowest = np.maximum(lower[:-1, earlier], lower[1:, later])
            which = np.nonzero(highest > lowest)
            frame, finer, coarser = time[which[0]], inside[which[1]], holder[which[1]]
            cosine = similar.across(frame, finer, coarser, finer_is_later=finer_is_later).astype(np.float64)
            # Below s = 0 the path's temporal threshold stays at -1, where every pair joins; NaN never does.
            key = np.where(cosine > -1.0, (cosine + 1.0) / 2.0, np.where(np.isnan(cosine), -np.inf, 0.0))
            top = np.minimum(highest[which], key)
            keep = top > lowest[which]
            later_key.append(((frame + 1) * tree.node_count + later[which[1]])[keep])
            begin.append(top[keep])
            end.append(lowest[which][keep])
    return [_union(np.concatenate(later_key), np.concatenate(begin), np.concatenate(end))]


def _union(key: Ints, begin: Floats, end: Floats) -> tuple[Floats, Floats]:
    """Merge overlapping intervals `(end, begin]` of the same key."""
    if not len(key):
        return begin, end
    order = np.lexsort((-begin, key))
    key, begin, end = key[order], begin[order], end[order]
    # A running minimum of the lower ends within a key: shift each key's ends below all those of the key before it.
    rank = np.cumsum(np.concatenate([[0], (np.diff(key) != 0).astype(np.int64)]))
    low = np.where(np.isneginf(end), -2.0, end)
    reached = np.minimum.accumulate(low - 4.0 * rank)
    fresh = np.ones(len(key), bool)
    fresh[1:] = (np.diff(key) != 0) | (begin[1:] - 4.0 * rank[1:] <= reached[:-1])
    first = np.flatnonzero(fresh)
    return begin[first], np.minimum.reduceat(end, first)


def _state(
    similar: Similarities, support: Floats, spatial: float, *, path: BudgetPath, rule: Grouping
) -> tuple[Selection, Candidates | None, Ints]:
    """Kept nodes, candidates and representatives at one point of the path."""
    selection = select(similar.tree, support, threshold=spatial)
    if path == "spatial":
        return selection, None, np.arange(len(selection.node))
    found = candidates(similar, selection)
    edges = found.edges(temporal_on_path(spatial))
    return selection, found, group(len(selection.node), edges=edges, rule=rule)


def count_at(similar: Similarities, support: Floats, spatial: float, *, path: BudgetPath, rule: Grouping) -> int:
    """Number of tokens at one point of the path, under any rule."""
    return _count(_state(similar, support, spatial, path=path, rule=rule)[2])


def _count(representative: Ints) -> int:
    return int((representative == np.arange(len(representative))).sum())


def settle(
    similar: Similarities, support: Floats, *, tokens: int, path: BudgetPath, rule: Grouping, exact: bool
) -> Settled:
    """Meet a number of tokens on one video.

    Args:
        similar: from `measure`.
        support: from `Similarities.support`.
        tokens: the budget, at most the number of cells.
        path: "both", or "spatial" for no temporal step.
        rule: the grouping.
        exact: exactly `tokens`; otherwise at most that, and fewer by at most one per frame.

    Raises:
        InvalidInput: fewer tokens than the root cells allow.
    """
    tree, frames = similar.tree, similar.frames
    fewest = tree.root_count * (1 if path == "both" else frames)
    cells = frames * tree.cell_count
    if tokens < fewest:
        raise InvalidInput(
            f"the budget is {tokens} of {cells} tokens, and on this video at least {fewest} remain "
            f"(a share of {fewest / cells:.3g}): one for each cell of the root level"
            + (" of every frame" if path == "spatial" else ""),
            remedy=f"Give at least {fewest}{other_ways(tree.is_coarsest, path=path)}.",
        )
    if rule == "directed":
        curve = trace(similar, support, path=path)
        fits = np.flatnonzero(curve.counts <= tokens)
        index, points = (int(fits[0]) if len(fits) else len(curve.points) - 1), curve.points
    else:
        points = np.append(trace(similar, support, path=path).points, -1.0)
        low, high = 0, len(points) - 1
        while low < high:
            middle = (low + high) // 2
            count = count_at(similar, support, float(points[middle]), path=path, rule=rule)
            low, high = (low, middle) if count <= tokens else (middle + 1, high)
        index = low
    return _finish(similar, support, points, index, tokens=tokens, path=path, rule=rule, exact=exact)


def _finish(
    similar: Similarities,
    support: Floats,
    points: npt.NDArray[np.float64],
    index: int,
    *,
    tokens: int,
    path: BudgetPath,
    rule: Grouping,
    exact: bool,
) -> Settled:
    slack = similar.frames if rule == "directed" and not exact else 0
    spatial = float(points[index])
    selection, found, representative = _state(similar, support, spatial, path=path, rule=rule)
    surplus = _count(representative) - tokens
    if surplus < -slack and index > 0:
        spatial = float(points[index - 1])
        selection, found, representative = _state(similar, support, spatial, path=path, rule=rule)
        surplus = _count(representative) - tokens
    if surplus > 0:
        representative = _join_best(similar, support, selection, found, representative, surplus)
    temporal = temporal_on_path(spatial) if path == "both" else None
    return Settled(spatial, temporal, selection, representative, max(surplus, 0))


def _join_best(
    similar: Similarities,
    support: Floats,
    selection: Selection,
    found: Candidates | None,
    representative: Ints,
    surplus: int,
) -> Ints:
    """Join `surplus` more representatives to an earlier node each, the most similar first, ties by position.

    A representative's choices are its candidates in the frame before and, inside its frame, the node at the top left of
    the smallest ancestor that does not begin with itself. Every choice has a lower number, so no two joins can close a
    circle and each takes away exactly one token.
    """
    tree, count = similar.tree, len(selection.node)
    best, target = np.full(count, -np.inf), np.arange(count)
    if found is not None and len(found.pairs):
        cosine = np.where(np.isnan(found.cosine), -1.0, found.cosine).astype(np.float64)
        order = np.lexsort((found.pairs[:, 0], -cosine, found.pairs[:, 1]))
        later = found.pairs[order, 1]
        first = np.flatnonzero(np.concatenate([[True], np.diff(later) != 0]))
        best[later[first]] = (cosine[order[first]] + 1.0) / 2.0
        target[later[first]] = found.pairs[order[first], 0]
    open_ = np.ones(count, bool)
    for up in range(tree.level_count - 2, -1, -1):
        above = tree.ancestor[selection.node, up]
        usable = open_ & (above >= 0) & (above != selection.node)
        corner = tree.first_cell[np.where(usable, above, 0)] + selection.frame * tree.cell_count
        sibling = selection.holder.ravel()[corner]
        usable &= sibling != np.arange(count)
        open_ &= ~usable
        key = np.full(count, -np.inf)
        key[usable] = np.nan_to_num(support[selection.frame[usable], above[usable] - tree.cell_count], nan=-1.0)
        better = usable & (key > best)
        best[better], target[better] = key[better], sibling[better]
    heads = np.flatnonzero((representative == np.arange(count)) & (target != np.arange(count)))
    chosen = heads[np.argsort(-best[heads], kind="stable")[:surplus]]
    joined = representative.copy()
    joined[chosen] = target[chosen]
    return follow(joined)
