"""The only code that touches feature vectors: halve a grid, dot pairs of rows, average rows into tokens.

Each of the three is one operator that reads the video in place. Pair dots use the kernel that ATen keeps for the
gradient of `embedding_bag` with respect to its per-sample weights, which is exactly "row a of one table times row b
of another" for a list of pairs, on CPU and CUDA, without gathering either side. Means use `embedding_bag` itself: a
bag is summed in the order of its list by one thread, so the result does not depend on timing, and the sums are kept
in float32 (float64 for float64 input) whatever the input is.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

__all__ = [
    "CHANNEL_PARTS",
    "accumulation_dtype",
    "channel_parts",
    "halve",
    "pair_dots",
    "rows_of",
    "same_cell_cosines",
    "weighted_sums",
]

CHANNEL_PARTS = 3  # a narrow type is widened a third of the channels at a time: two thirds of the input's bytes
_NARROWEST_PART = 32
_GATHER_BYTES = 1 << 25
# `embedding_bag` sums these in float32 but takes its weights in the type of the rows. A weight is therefore given as
# two terms, itself rounded and what is left, which carry twice the digits: more than the rounded result can show.
# (float16 is not here: the second term of a weight below 1e-4 would be lost under its smallest numbers.)
_SPLIT_WEIGHTS = {torch.bfloat16}


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """float64 for float64, float32 for every other floating type."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def channel_parts(
    x: Tensor, *, parts: int = CHANNEL_PARTS, multiple: int = 1, buffer: Tensor | None = None
) -> Iterator[tuple[slice, Tensor]]:
    """Yield `(channels, values)` that together are `x (..., C)` in its accumulation dtype.

    A tensor that already has it is yielded whole, without a copy if it is contiguous. Any other is widened into one
    buffer that every part reuses, so a yielded tensor is valid until the next one is asked for.

    Args:
        x: any floating tensor; channels last.
        parts: how many parts at most.
        multiple: parts start and end at multiples of this many channels (the width of an attention head).
        buffer: flat memory to widen into; None allocates as much as one part needs.
    """
    wide, channels = accumulation_dtype(x.dtype), x.shape[-1]
    if x.dtype == wide:
        yield slice(0, channels), x.contiguous()
        return
    groups = channels // multiple
    width = -(-groups // max(1, min(parts, groups, channels // _NARROWEST_PART))) * multiple
    if buffer is None:
        buffer = torch.empty(x.shape[:-1].numel() * width, dtype=wide, device=x.device)
    for start in range(0, channels, width):
        stop = min(start + width, channels)
        wanted = x.shape[:-1].numel() * (stop - start)
        part = (buffer if buffer.numel() == wanted else buffer[:wanted]).view(*x.shape[:-1], stop - start)
        yield slice(start, stop), part.copy_(x if width == channels else x[..., start:stop])


def halve(source: Tensor, target: Tensor, *, sums: bool) -> None:
    """Write the next coarser level of a grid, channels first for the pooling operators (a view of channels last).

    Every position of `target` is the mean (or with `sums` the sum) of its children. For a side of odd length the
    padding makes the first window hold one real position, which is where the method has its remainder.

    Args:
        source: `(F, C, *grid)`.
        target: `(F, C, *coarser)`, written in place.
        sums: sum instead of average.
    """
    grid = source.shape[2:]
    two, padding = [2] * len(grid), [side % 2 for side in grid]
    # The last three: no ceiling, no padding counted, and the divisor (None for the number of real positions).
    options = (two, two, padding, False, False, 1 if sums else None)
    if len(grid) == 2 and source.device.type == "cpu":
        torch.ops.aten.avg_pool2d.out(source, *options, out=target)
    else:  # elsewhere, and in three dimensions, the operators write as if `target` were laid out channels first
        pool = torch.ops.aten.avg_pool2d if len(grid) == 2 else torch.ops.aten.avg_pool3d
        target.copy_(pool(source, *options))


def pair_dots(a: Tensor, b: Tensor, rows_a: Tensor, rows_b: Tensor, *, heads: int = 1) -> Tensor:
    """Dot products of listed row pairs, per head.

    Args:
        a: `(R, C)` float32 or float64, contiguous.
        b: `(S, C)` of the same type.
        rows_a: `(L,)` integers below `R`.
        rows_b: `(L,)` integers below `S`.
        heads: number of equal groups of channels to keep apart.

    Returns:
        `(L * heads,)`, the heads of a pair side by side.
    """
    if heads > 1:
        each = torch.arange(heads, device=a.device, dtype=rows_a.dtype)
        rows_a, rows_b = (rows[:, None].mul(heads).add(each).view(-1) for rows in (rows_a, rows_b))
        a, b = a.reshape(-1, a.shape[1] // heads), b.reshape(-1, b.shape[1] // heads)
    if a.device.type in {"cpu", "cuda"}:
        # Arguments: gradients, weights, rows of weights, offsets (only looked at where the next is empty), rows of
        # gradients, mode 0 for "sum".
        kernel = torch.ops.aten._embedding_bag_per_sample_weights_backward  # noqa: SLF001  (see the module docstring)
        dots: Tensor = kernel(a, b, rows_b, rows_b, rows_a, 0)
        return dots
    return _gathered_dots(a, b, rows_a, rows_b)


def _gathered_dots(a: Tensor, b: Tensor, rows_a: Tensor, rows_b: Tensor) -> Tensor:
    """The same from public operators, for other devices: gathers a bounded number of rows at a time."""
    step = max(1, _GATHER_BYTES // max(1, a.shape[1] * a.element_size()))
    parts = [
        (a.index_select(0, some_a) * b.index_select(0, some_b)).sum(dim=-1)
        for some_a, some_b in zip(torch.split(rows_a, step), torch.split(rows_b, step), strict=True)
    ]
    return torch.cat(parts)


@torch.no_grad()
def same_cell_cosines(x: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Cosine of every cell of one frame with the same cell of another.

    Args:
        x: `(T, H, W, C)` floating.
        first: `(L,)` frame numbers.
        second: `(L,)` frame numbers.

    Returns:
        `(L, H * W)` float32 or float64; 0 where a vector is zero.
    """
    cells = x.shape[1] * x.shape[2]
    within = torch.arange(cells, device=x.device)
    rows_first, rows_second = ((frames[:, None] * cells + within).view(-1) for frames in (first, second))
    dots, squares = (
        x.new_zeros((), dtype=accumulation_dtype(x.dtype)),
        x.new_zeros((), dtype=accumulation_dtype(x.dtype)),
    )
    for _, part in channel_parts(x):
        rows = rows_of(part)
        dots = dots + pair_dots(rows, rows, rows_first, rows_second)
        squares = squares + torch.linalg.vector_norm(rows, dim=-1).square()
    norms = squares.sqrt().clamp(min=1e-8)
    return (dots / (norms[rows_first] * norms[rows_second])).view(-1, cells)


def weighted_sums(rows: Tensor, order: Tensor, bounds: Tensor, weights: Tensor) -> Tensor:
    """Sum listed rows into tokens.

    Args:
        rows: `(R, C)` of any floating type.
        order: `(L,)` rows of the first token, then of the second, and so on.
        bounds: `(N + 1,)` where each token's rows begin in `order`; the last entry is `L`.
        weights: `(L,)` factor of each listed row, float64.

    Returns:
        `(N, C)` in the type of `rows`; token `n` is the sum of `weights * rows[order]` over its rows, accumulated in
        float32 (float64 for float64) and rounded once.
    """
    wide, tokens = accumulation_dtype(rows.dtype), bounds.numel() - 1
    if rows.requires_grad and torch.is_grad_enabled():
        return _bags(rows.to(wide), order, bounds, weights.to(wide)).to(rows.dtype)
    if rows.dtype == wide:
        return _bags(rows, order, bounds, weights.to(wide))
    if rows.dtype in _SPLIT_WEIGHTS:
        coarse = weights.to(rows.dtype)
        fine = (weights - coarse).to(rows.dtype)
        both = torch.stack([coarse, fine], dim=1).view(-1)
        return _bags(rows, order[:, None].expand(-1, 2).reshape(-1), bounds * 2, both)
    out = torch.empty(tokens, rows.shape[1], dtype=rows.dtype, device=rows.device)
    weights = weights.to(wide)
    for channels, part in channel_parts(rows):
        out[:, channels] = _bags(part, order, bounds, weights)
    return out


def _bags(rows: Tensor, order: Tensor, bounds: Tensor, weights: Tensor) -> Tensor:
    return F.embedding_bag(order, rows, bounds, mode="sum", per_sample_weights=weights, include_last_offset=True)


def rows_of(x: Tensor) -> Tensor:
    """`x (..., C)` as `(R, C)`, without a copy if it is contiguous."""
    return x.reshape(prod(x.shape[:-1]), x.shape[-1])
