"""Exhaustive multi-scale clip tokens: the mean of every window of clips, all lengths, from one prefix sum.

528 windows of 32 clips cost one cumulative sum and one difference of two gathered rows, whatever their lengths; nothing
is looped over. `window_spans` says which clips a token stands for, in the field's order: by length, then by start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Lengths", "span_means", "window_spans"]

Lengths = Literal["all", "geometric"]


def window_spans(clips: int, *, longest: int, lengths: Lengths = "all") -> Tensor:
    """First clip and end of the windows of 1 to `longest` clips: int64 (V, 2), shortest first, then earliest.

    `lengths="all"` has every length; `geometric` only 1, 2, 3, 4, 6, 8, 12, 16, 24, ...: of 32 clips 222 windows
    instead of 528, and every window left out has a neighbour at most a third longer or shorter.

    Raises:
        InvalidInput: no clips, or `longest` outside 1..clips.
    """
    if clips < 1 or not 1 <= longest <= clips:
        raise InvalidInput(f"longest is {longest} of {clips} clips", remedy="Give 1 <= longest <= clips.")
    width = torch.arange(1, longest + 1)
    if lengths == "geometric":
        odd = width // (width & -width)  # what is left without the factors of two
        width = width[(odd == 1) | ((odd == 3) & (width > 2))]
    width = width[:, None]  # (W, 1)
    start = torch.arange(clips)[None]  # (1, M)
    valid = (start + width <= clips).flatten()
    both = torch.stack([(start + 0 * width).flatten(), (start + width).flatten()], dim=1)  # (W*M, 2)
    return both[valid]


def span_means(clips: Tensor, spans: Tensor) -> Tensor:
    """Means over spans of clips, differentiable.

    Sums run in float32 at least: half-precision prefix sums of a long video would lose the late windows.

    Args:
        clips: (B, M, D).
        spans: int64 (V, 2), or (B, K, 2) where every video has its own; 0 <= start < end <= M.

    Returns:
        (B, V, D) or (B, K, D), in the clips' dtype.
    """
    wide = clips.float() if clips.dtype in (torch.float16, torch.bfloat16) else clips
    sums = torch.cat([wide.new_zeros(wide.shape[0], 1, wide.shape[2]), wide.cumsum(dim=1)], dim=1)  # (B, M+1, D)
    count = (spans[..., 1] - spans[..., 0]).unsqueeze(-1)
    if spans.dim() == 2:
        total = sums.index_select(1, spans[:, 1]) - sums.index_select(1, spans[:, 0])  # (B, V, D)
    else:
        at = torch.arange(clips.shape[0], device=clips.device)[:, None]
        total = sums[at, spans[..., 1]] - sums[at, spans[..., 0]]  # (B, K, D)
    return (total / count).to(clips.dtype)
