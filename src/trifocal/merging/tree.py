"""The tables of one token grid: which cells make which node, at every level of the quadtree.

A grid of `(H, W)` cells is halved until either side is 2; `root_level` counts from the coarsest of these levels. A
side of odd length keeps its first row or column alone, so the remainder is at the top left, where the published
method has it. The nodes of all levels of one frame share one numbering: the `cell_count` cells first (the finest
level), then every coarser level up to the root. Nothing here depends on a video, so a table is built once per grid
and kept. The same tables serve cubes `(F, H, W)` for the octree.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]

__all__ = ["Tree", "build_tree", "level_sizes"]


def level_sizes(grid: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """The side lengths of every level, coarsest first (§2.1 of the method: stop as soon as one side is 2).

    Examples: 14×14 gives 2, 4, 7, 14; 13×20 gives (2, 3), (4, 5), (7, 10), (13, 20). A grid one cell wide is halved
    along its other side; 1×1 is its own and only level.
    """
    sizes = [grid]
    while 2 not in sizes[0] and max(sizes[0]) > 1:
        sizes.insert(0, tuple((side + 1) // 2 for side in sizes[0]))
    return tuple(sizes)


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """The nodes of one grid, `P` in all, `L` levels; level 0 is the root, level `L-1` the cells.

    Attributes:
        sizes: side lengths per level, root first.
        offsets: number of the first node of each level, root first.
        level: `(P,)` level of each node.
        ancestor: `(P, L)` the node at each level that contains this one (itself at its own level), -1 below it.
        children: `(P - cells, 2^d)` children of the coarse nodes; absent ones repeat the first child.
        child_count: `(P - cells,)` how many of them are real.
        first_cell: `(P,)` the top-left cell.
        start, stop: `(P, d)` the half-open box in cells.
        cells_in: `(P,)` number of cells in the node.
        cell_share: `(cells, L)` weight of a cell in the mean of means of its ancestor at each level.
    """

    sizes: tuple[tuple[int, ...], ...]
    offsets: tuple[int, ...]
    level: Ints
    ancestor: Ints
    children: Ints
    child_count: Ints
    first_cell: Ints
    start: Ints
    stop: Ints
    cells_in: Ints
    cell_share: npt.NDArray[np.float64]

    @property
    def grid(self) -> tuple[int, ...]:
        """Side lengths in cells."""
        return self.sizes[-1]

    @property
    def level_count(self) -> int:
        """Number of levels, `L`."""
        return len(self.sizes)

    @property
    def cell_count(self) -> int:
        """Number of cells in the grid."""
        return prod(self.grid)

    @property
    def node_count(self) -> int:
        """Number of nodes of all levels, `P`."""
        return len(self.level)

    @property
    def root_count(self) -> int:
        """Number of root nodes: the fewest tokens that a frame can have."""
        return prod(self.sizes[0])

    @property
    def is_coarsest(self) -> bool:
        """Whether the grid has no level above the root."""
        return self.sizes[0] == level_sizes(self.grid)[0]

    @property
    def parent(self) -> Ints:
        """`(P - roots,)` the parent of every node but the roots, which are the last ones."""
        below = np.arange(self.node_count - self.root_count)
        return self.ancestor[below, self.level[below] - 1]


def _parent_along(side: int) -> Ints:
    """Parent of each position along a side: pairs, and for an odd length the first position alone."""
    return (np.arange(side) + side % 2) // 2


def _starts_along(sides: list[int]) -> list[Ints]:
    """Per level (root first), the first cell of each position along one axis."""
    starts = [np.arange(sides[-1])]
    for side in reversed(sides[1:]):
        parents = _parent_along(side)
        first_child = np.searchsorted(parents, np.arange(parents[-1] + 1))
        starts.insert(0, starts[0][first_child])
    return starts


@lru_cache(maxsize=64)
def build_tree(grid: tuple[int, ...], root_level: int) -> Tree:
    """Build the tables for a grid.

    Args:
        grid: side lengths, `(H, W)` or `(F, H, W)`, each at least 1.
        root_level: 0 the coarsest level, 1 the next, -1 the finest (no spatial merging). A level that the grid does not
            have means the nearest one that it has.
    """
    every = level_sizes(grid)
    index = root_level if root_level >= 0 else len(every) + root_level
    sizes = every[min(max(index, 0), len(every) - 1) :]
    levels, axes = len(sizes), range(len(grid))
    counts = [prod(size) for size in sizes]
    offsets = [sum(counts[level + 1 :]) for level in range(levels)]
    nodes = sum(counts)

    level_of, starts, stops = np.empty(nodes, np.int64), *(np.empty((nodes, len(grid)), np.int64) for _ in range(2))
    per_axis = [_starts_along([size[axis] for size in sizes]) for axis in axes]
    ancestor = np.full((nodes, levels), -1, np.int64)
    for level, size in enumerate(sizes):
        here = slice(offsets[level], offsets[level] + counts[level])
        where = np.indices(size).reshape(len(grid), -1)
        level_of[here] = level
        for axis in axes:
            first = per_axis[axis][level]
            starts[here, axis] = first[where[axis]]
            stops[here, axis] = np.append(first[1:], grid[axis])[where[axis]]
        for up in range(level, -1, -1):
            ancestor[here, up] = offsets[up] + np.ravel_multi_index(tuple(where), sizes[up])
            if up:
                where = np.stack([_parent_along(sizes[up][axis])[where[axis]] for axis in axes])

    children, child_count = _children(ancestor, level_of, nodes, counts[-1], 2 ** len(grid))
    share = np.ones((counts[-1], levels))
    for level in range(levels - 2, -1, -1):
        share[:, level] = share[:, level + 1] / child_count[ancestor[: counts[-1], level] - counts[-1]]
    return Tree(
        sizes=sizes,
        offsets=tuple(offsets),
        level=level_of,
        ancestor=ancestor,
        children=children,
        child_count=child_count,
        first_cell=np.atleast_1d(np.ravel_multi_index(tuple(starts.T), grid)),
        start=starts,
        stop=stops,
        cells_in=(stops - starts).prod(axis=1),
        cell_share=share,
    )


def _children(ancestor: Ints, level: Ints, nodes: int, cells: int, most: int) -> tuple[Ints, Ints]:
    """Children of every coarse node in raster order, absent ones filled with the first child, and their number."""
    below = np.flatnonzero(level > 0)
    parents = ancestor[below, level[below] - 1]
    order = below[np.argsort(parents, kind="stable")]
    count = np.bincount(parents, minlength=nodes)[cells:].astype(np.int64)
    first = np.cumsum(count) - count
    slot = np.arange(most)[None] * (np.arange(most)[None] < count[:, None])
    return (order[first[:, None] + slot] if len(order) else np.empty((0, most), np.int64)), count
