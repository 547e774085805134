"""The operators that touch features, against plain arithmetic."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from trifocal.merging import kernels


@pytest.mark.parametrize("grid", [(6, 8), (7, 8), (7, 5), (1, 5), (5, 1), (3, 3), (4, 6, 3), (7, 7, 7)])
@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("sums", [False, True])
def test_halving(grid: tuple[int, ...], channels: int, sums: bool) -> None:
    source = torch.randn(3, *grid, channels)
    coarser = tuple((side + 1) // 2 for side in grid)
    target = torch.empty(3, *coarser, channels)
    kernels.halve(source.movedim(-1, 1), target.movedim(-1, 1), sums=sums)
    expected = torch.zeros_like(target)
    count = torch.zeros(coarser)
    for cell in torch.cartesian_prod(*(torch.arange(side) for side in grid)).tolist():
        parent = tuple((at + side % 2) // 2 for at, side in zip(cell, grid, strict=True))
        expected[(slice(None), *parent)] += source[(slice(None), *cell)]
        count[parent] += 1
    expected = expected if sums else expected / count[..., None]
    torch.testing.assert_close(target, expected)


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pair_dots(heads: int, dtype: torch.dtype) -> None:
    a, b = torch.randn(7, 8, dtype=dtype), torch.randn(5, 8, dtype=dtype)
    rows_a, rows_b = torch.tensor([0, 6, 6, 3]), torch.tensor([4, 0, 0, 1])
    expected = (a[rows_a] * b[rows_b]).view(4, heads, -1).sum(-1).flatten()
    torch.testing.assert_close(kernels.pair_dots(a, b, rows_a, rows_b, heads=heads), expected)
    torch.testing.assert_close(kernels.pair_dots(a, b, rows_a.int(), rows_b.int(), heads=heads), expected)


def test_the_way_for_other_devices_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_GATHER_BYTES", 64)
    a, rows = torch.randn(9, 8), torch.arange(9)
    found = kernels._gathered_dots(a, a, rows, rows.flip(0))
    torch.testing.assert_close(found, kernels.pair_dots(a, a, rows, rows.flip(0)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_a_mean_of_many_equal_rows_is_that_row(dtype: torch.dtype) -> None:
    rows = torch.randn(1, 48).to(dtype).expand(3000, -1).contiguous()
    weights = torch.full((3000,), 1 / 3000, dtype=torch.float64)
    found = kernels.weighted_sums(rows, torch.arange(3000), torch.tensor([0, 3000]), weights)
    assert found.dtype == dtype
    tolerance = {torch.float32: 1e-4, torch.float64: 1e-12}.get(dtype, 1e-6)
    torch.testing.assert_close(found[0].double(), rows[0].double(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_sums_are_rounded_once(dtype: torch.dtype) -> None:
    rows = (torch.randn(60, 70) + 3).to(dtype)
    order, bounds = torch.randperm(60), torch.tensor([0, 7, 8, 60])
    weights = torch.rand(60, dtype=torch.float64)
    found = kernels.weighted_sums(rows, order, bounds, weights)
    exact = torch.stack([(rows[order[a:b]].double() * weights[a:b, None]).sum(0) for a, b in pairwise(bounds.tolist())])
    error = (found.double() - exact).abs()
    best = (exact.to(dtype).double() - exact).abs()
    assert (error <= best * 1.01 + exact.abs() * 3e-5 * (dtype != torch.float64) + 1e-12).all()


def test_sums_carry_gradients() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        rows = torch.randn(6, 5, dtype=dtype, requires_grad=True)
        weights = torch.tensor([0.5, 0.5, 1.0], dtype=torch.float64)
        kernels.weighted_sums(rows, torch.tensor([0, 3, 5]), torch.tensor([0, 2, 3]), weights).sum().backward()  # type: ignore[no-untyped-call]
        assert rows.grad is not None
        assert rows.grad[:, 0].tolist() == [0.5, 0.0, 0.0, 0.5, 0.0, 1.0]


@pytest.mark.parametrize(
    ("channels", "multiple", "count"), [(128, 1, 4), (130, 1, 4), (40, 1, 1), (96, 24, 2), (8, 8, 1)]
)
def test_channel_parts_cover_all_channels(channels: int, multiple: int, count: int) -> None:
    x = torch.randn(2, 3, channels).bfloat16()
    found = [(span, part.clone()) for span, part in kernels.channel_parts(x, multiple=multiple)]
    assert len(found) <= max(count, 4)
    assert torch.equal(torch.cat([part for _, part in found], dim=-1), x.float())
    assert all(span.start % multiple == 0 for span, _ in found)
    (_, whole), *rest = kernels.channel_parts(x.float())
    assert not rest
    assert whole.shape == x.shape


def test_same_cell_cosines() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(4, 2, 3, 130).to(dtype)
        x[3, 0, 0] = 0
        found = kernels.same_cell_cosines(x, torch.tensor([1, 3]), torch.tensor([0, 2]))
        expected = torch.nn.functional.cosine_similarity(x[[1, 3]].float(), x[[0, 2]].float(), dim=-1).flatten(1)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
