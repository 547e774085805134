"""From similarities and two thresholds to tokens: which cells each token holds, and with which weights.

The spatial step keeps a coarse node where it is similar enough to all its children, looking from the root down; the
temporal step joins kept nodes of consecutive frames that contain one another. The candidates come from the owner
grid: a node's partner in the next frame is the owner of its own top-left cell there, so each node has at most one
partner that contains it in either direction, and no table of all pairs is ever made. Host code on small arrays of
integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from trifocal.merging.similarity import Similarities
    from trifocal.merging.tree import Tree

    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.floating[Any]]

__all__ = ["Candidates", "Layout", "Selection", "candidates", "lay_out", "lay_out_cells", "select"]


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """The nodes that the spatial step keeps, `M` in all, sorted by frame, top and left.

    Attributes:
        tree: the grid's tables.
        owner: `(T, cells)` the kept node that holds each cell.
        flat: `(M,)` position of each node's top-left cell, `t * cells + cell`.
        frame: `(M,)` its frame.
        node: `(M,)` its node number in the tree.
        number: `(T * cells,)` index into this list of the node whose top-left cell this is; elsewhere meaningless.
    """

    tree: Tree
    owner: Ints
    flat: Ints
    frame: Ints
    node: Ints
    number: Ints

    @property
    def boxes(self) -> Ints:
        """`(M, 5)` as t, y0, x0, y1, x1 (`(M, 1 + 2d)` in general)."""
        return np.concatenate([self.frame[:, None], self.tree.start[self.node], self.tree.stop[self.node]], axis=1)

    @property
    def holder(self) -> Ints:
        """`(T, cells)` index into this list of the node that holds each cell."""
        first = self.tree.first_cell[self.owner]
        first += np.arange(len(self.owner))[:, None] * self.tree.cell_count
        return self.number[first]


def select(tree: Tree, support: Floats, *, threshold: float) -> Selection:
    """Keep the coarsest nodes whose lowest cosine with a child is at least `threshold`.

    Args:
        tree: the grid's tables.
        support: `(T, P - cells)`, from `Similarities.support`.
        threshold: at least this; a cell is always kept when nothing above it is.
    """
    cells = tree.cell_count
    keep = support >= np.float64(threshold)  # not rounded to float32, so that a threshold found means what it says
    owner = np.broadcast_to(np.arange(cells), (len(keep), cells))
    for level in range(tree.level_count - 2, -1, -1):
        above = tree.ancestor[:cells, level]
        owner = np.where(keep[:, above - cells], above, owner)
    flat = np.flatnonzero(tree.first_cell[owner] == np.arange(cells))
    number = np.empty(owner.size, np.int64)
    number[flat] = np.arange(len(flat))
    return Selection(tree=tree, owner=owner, flat=flat, frame=flat // cells, node=owner.ravel()[flat], number=number)


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Pairs of kept nodes of consecutive frames, one containing the other, sorted.

    Attributes:
        pairs: `(L, 2)` indices into the selection, earlier first.
        cosine: `(L,)`.
    """

    pairs: Ints
    cosine: Floats

    def edges(self, threshold: float) -> Ints:
        """`(E, 2)` the pairs whose cosine is at least `threshold`."""
        return self.pairs[self.cosine >= np.float64(threshold)]


def candidates(similar: Similarities, selection: Selection) -> Candidates:
    """All pairs that the temporal step compares."""
    tree, owner, cells = selection.tree, selection.owner, selection.tree.cell_count
    frame, node = selection.frame, selection.node
    cell = tree.first_cell[node]
    index = np.arange(len(node))

    forward = index[frame < len(owner) - 1]
    container = owner[frame[forward] + 1, cell[forward]]
    inside = tree.level[container] <= tree.level[node[forward]]
    forward, container = forward[inside], container[inside]
    later = selection.number[(frame[forward] + 1) * cells + tree.first_cell[container]]
    ahead = similar.across(frame[forward], node[forward], container, finer_is_later=False)

    backward = index[frame > 0]
    holder = owner[frame[backward] - 1, cell[backward]]
    inside = tree.level[holder] < tree.level[node[backward]]
    backward, holder = backward[inside], holder[inside]
    earlier = selection.number[(frame[backward] - 1) * cells + tree.first_cell[holder]]
    behind = similar.across(frame[backward] - 1, node[backward], holder, finer_is_later=True)

    pairs = np.stack([np.concatenate([forward, earlier]), np.concatenate([later, backward])], axis=1)
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    return Candidates(pairs=pairs[order], cosine=np.concatenate([ahead, behind])[order])


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Tokens as lists of cells; `N` tokens.

    Attributes:
        boxes: `(N, 5)` box of each token's representative.
        flat: `(N,)` its position `t * cells + cell`.
        patch_counts: `(N,)` cells in the token.
        assignment: `(T * cells,)` token of each cell, or -1.
        weights: `(T * cells,)` float64, weight of each cell in its token's mean; they sum to 1 per token, and a
            dropped cell has 0.
        order: `(R,)` the cells of a weight above 0, sorted by token.
        bounds: `(N + 1,)` where each token begins in `order`.
    """

    boxes: Ints
    flat: Ints
    patch_counts: Ints
    assignment: Ints
    weights: npt.NDArray[np.float64]
    order: Ints
    bounds: Ints


def lay_out(selection: Selection, representative: Ints | None = None, *, patch_weighting: bool = False) -> Layout:
    """Turn kept nodes and their representatives into tokens.

    Args:
        selection: the kept nodes.
        representative: `(M,)` from `grouping.group`; None where every node stands for itself.
        patch_weighting: every cell of a token counts the same. Otherwise every node counts the same, and inside a node
            every child the same, as the method has it.
    """
    tree, holder = selection.tree, selection.holder.ravel()
    kept = np.arange(len(selection.node))
    if representative is None:
        representative = kept
    heads = np.flatnonzero(representative == kept)
    token = np.empty(len(kept), np.int64)
    token[heads] = np.arange(len(heads))
    token = token[representative]
    assignment = token[holder]
    patch_counts = np.bincount(assignment, minlength=len(heads))
    if patch_weighting:
        weights = 1.0 / patch_counts[assignment]
    else:
        members = np.bincount(token, minlength=len(heads))
        cell = np.arange(tree.cell_count)
        inside = tree.cell_share[cell, tree.level[selection.owner]].ravel()
        weights = inside / members[assignment]
    return Layout(
        boxes=selection.boxes[heads],
        flat=selection.flat[heads],
        patch_counts=patch_counts,
        assignment=assignment,
        weights=weights,
        order=np.argsort(assignment, kind="stable"),
        bounds=np.concatenate([[0], np.cumsum(patch_counts)]),
    )


def lay_out_cells(
    *,
    width: int,
    height: int,
    flat: Ints,
    assignment: Ints,
    weights: npt.NDArray[np.float64] | None = None,
    boxes: Ints | None = None,
) -> Layout:
    """Tokens of a method that has no tree.

    Args:
        width: of the grid.
        height: of the grid.
        flat: `(N,)` position of each token's representative.
        assignment: `(T * cells,)` token of each cell, or -1.
        weights: `(T * cells,)` as in `Layout`; None for tokens that are one cell each, at `flat`.
        boxes: `(N, 5)`; None for boxes of one cell.
    """
    if weights is None:
        weights = np.zeros(len(assignment))
        weights[flat] = 1.0
    if boxes is None:
        frame, cell = np.divmod(flat, height * width)
        y, x = np.divmod(cell, width)
        boxes = np.stack([frame, y, x, y + 1, x + 1], axis=1)
    held = assignment[assignment >= 0]
    used = np.flatnonzero(weights > 0)
    order = used[np.argsort(assignment[used], kind="stable")]
    return Layout(
        boxes=boxes,
        flat=flat,
        patch_counts=np.bincount(held, minlength=len(flat)),
        assignment=assignment,
        weights=weights,
        order=order,
        bounds=np.concatenate([[0], np.cumsum(np.bincount(assignment[used], minlength=len(flat)))]),
    )
