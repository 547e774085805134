"""The tables of a grid."""

from __future__ import annotations

import numpy as np
import pytest

from trifocal.merging.tree import build_tree, level_sizes


@pytest.mark.parametrize(
    ("grid", "sizes"),
    [
        ((14, 14), [2, 4, 7, 14]),
        ((13, 13), [2, 4, 7, 13]),
        ((24, 24), [2, 3, 6, 12, 24]),
        ((12, 20), [(2, 3), (3, 5), (6, 10), (12, 20)]),
        ((18, 32), [(2, 2), (3, 4), (5, 8), (9, 16), (18, 32)]),
        ((2, 2), [2]),
        ((2, 9), [(2, 9)]),
        ((1, 1), [1]),
        ((1, 7), [(1, 2), (1, 4), (1, 7)]),
        ((9, 1), [(2, 1), (3, 1), (5, 1), (9, 1)]),
        ((3, 3), [2, 3]),
    ],
)
def test_the_levels_are_those_of_the_specification(grid: tuple[int, int], sizes: list[object]) -> None:
    expected = tuple((size, size) if isinstance(size, int) else size for size in sizes)
    assert level_sizes(grid) == expected


def test_an_odd_side_has_its_remainder_at_the_top_left() -> None:
    tree = build_tree((14, 14), 1)
    roots = slice(tree.offsets[0], None)
    rows = sorted({(int(a), int(b)) for a, b in zip(tree.start[roots, 0], tree.stop[roots, 0], strict=True)})
    assert rows == [(0, 2), (2, 6), (6, 10), (10, 14)]


@pytest.mark.parametrize("grid", [(14, 14), (13, 20), (1, 1), (1, 7), (5, 1), (2, 2), (3, 9), (22, 26), (5, 6, 7)])
@pytest.mark.parametrize("root", [0, 1, -1, 9, -9])
def test_every_level_divides_the_grid(grid: tuple[int, ...], root: int) -> None:
    tree = build_tree(grid, root)
    cells = np.arange(tree.cell_count)
    assert tree.root_count == len(set(tree.ancestor[cells, 0].tolist()))
    for level in range(tree.level_count):
        above = tree.ancestor[cells, level]
        nodes = np.unique(above)
        assert np.array_equal(np.bincount(above, minlength=tree.node_count)[nodes], tree.cells_in[nodes])
        where = np.stack(np.unravel_index(cells, grid), axis=1)
        assert ((tree.start[above] <= where) & (where < tree.stop[above])).all()
        # Weights of the mean of means are those of a mean: they sum to 1 in every node.
        assert np.allclose(np.bincount(above, tree.cell_share[:, level], tree.node_count)[nodes], 1.0)
    for coarse, children in enumerate(tree.children):
        real = children[: tree.child_count[coarse]]
        assert (tree.parent[real] == coarse + tree.cell_count).all()
        assert (children[tree.child_count[coarse] :] == children[0]).all()


def test_a_root_level_beyond_the_grid_means_the_nearest() -> None:
    assert build_tree((14, 14), 9).sizes == ((14, 14),)
    assert build_tree((14, 14), -9).sizes == build_tree((14, 14), 0).sizes
