"""One pass over the video finds the cosines that plain arithmetic finds, however the video is cut up."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from trifocal.merging.similarity import Similarities, measure
from trifocal.merging.tree import Tree

Field = Callable[..., torch.Tensor]


def vectors(x: torch.Tensor, tree: Tree) -> torch.Tensor:
    """`(T, P, C)` every node's mean of means, in float64."""
    flat = x.double().flatten(1, -2)
    out = flat.new_empty(len(x), tree.node_count, x.shape[-1])
    for node in range(tree.node_count):
        level = int(tree.level[node])
        cells = np.flatnonzero(tree.ancestor[: tree.cell_count, level] == node)
        share = torch.from_numpy(tree.cell_share[cells, level])
        out[:, node] = (flat[:, cells] * share[:, None]).sum(1)
    return out


def cosine(a: torch.Tensor, b: torch.Tensor, heads: int) -> torch.Tensor:
    a, b = (part.reshape(*part.shape[:-1], heads, part.shape[-1] // heads) for part in (a, b))
    return torch.nn.functional.cosine_similarity(a, b, dim=-1).mean(-1)


def check(found: Similarities, x: torch.Tensor, heads: int, tolerance: float) -> None:
    tree, values = found.tree, vectors(x, found.tree)
    lowest = (
        torch.stack(
            [
                cosine(values[:, tree.cell_count + k, None], values[:, list(children)], heads).amin(1)
                for k, children in enumerate(tree.children)
            ],
            dim=1,
        )
        if len(tree.children)
        else torch.empty(len(x), 0)
    )
    np.testing.assert_allclose(found.support(), lowest.numpy(), atol=tolerance)
    for finer in range(tree.node_count):
        for level in range(int(tree.level[finer]) + 1):
            coarser = int(tree.ancestor[finer, level])
            for later in (False, True) if level < tree.level[finer] else (False,):
                time = np.arange(len(x) - 1)
                got = found.across(time, np.full_like(time, finer), np.full_like(time, coarser), finer_is_later=later)
                a, b = (values[1:, finer], values[:-1, coarser]) if later else (values[:-1, finer], values[1:, coarser])
                np.testing.assert_allclose(got, cosine(a, b, heads).numpy(), atol=tolerance)


@pytest.mark.parametrize("grid", [(5, 6), (3, 9), (1, 5), (2, 2), (4, 1), (1, 1)])
@pytest.mark.parametrize("frames", [1, 2, 3, 6, 11])
def test_all_pairs(field: Field, grid: tuple[int, int], frames: int) -> None:
    x = field(frames, *grid, 8)
    check(measure(x, root_level=0, temporal=True), x, 1, 2e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("frames", [2, 9])
@pytest.mark.parametrize("head_dim", [None, 16])
def test_types_and_heads(field: Field, dtype: torch.dtype, frames: int, head_dim: int | None) -> None:
    x = field(frames, 5, 4, 144).to(dtype)
    found = measure(x, root_level=0, temporal=True, head_dim=head_dim)
    check(found, x, 1 if head_dim is None else 144 // head_dim, 3e-6)


def test_a_view_is_as_good_as_a_copy(field: Field) -> None:
    x = field(6, 5, 4, 16)
    strange = x.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0)
    assert not strange.is_contiguous()
    np.testing.assert_array_equal(
        measure(strange, root_level=0, temporal=True).dots[1:-1], measure(x, root_level=0, temporal=True).dots[1:-1]
    )


def test_the_published_stand_in_for_absent_children(field: Field) -> None:
    x = field(3, 5, 6, 8)
    found = measure(x, root_level=0, temporal=False, corner=True)
    tree, values = found.tree, vectors(x, found.tree)
    plain, strict = found.support(), found.support(corner=True)
    for coarse in range(len(tree.children)):
        node = tree.cell_count + coarse
        corner = tree.offsets[int(tree.level[node]) + 1]
        also = cosine(values[:, node], values[:, corner], 1).numpy()
        whole = tree.child_count[coarse] == 4
        expected = plain[:, coarse] if whole else np.minimum(plain[:, coarse], also)
        np.testing.assert_allclose(strict[:, coarse], expected, atol=1e-6)
