"""Prototypes by merging adjacent clips, the most similar first (Ward's cost): B videos at once, on any device.

This is the hard baseline of the method page: tokens of a trained encoder merged afterwards, or in every step of
training. The choice of segments is taken on unit vectors and carries no gradient; the means of the segments do. One
step of the loop merges one pair in every video; M clips take at most M − 1 steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from trifocal.retrieval.model.tokens import PrototypeSet
from trifocal.retrieval.model.windows import span_means

if TYPE_CHECKING:
    from torch import Tensor

    from trifocal.retrieval.model.tokens import VideoTokens

__all__ = ["MergedGenerator", "adjacent_segments"]


def adjacent_segments(clips: Tensor, *, k: int) -> Tensor:
    """Segments after merging neighbours until `k` are left: int64 (B, k, 2), first clip and end, in order of time.

    Two neighbours of a and b clips with means m and n cost ab/(a+b)·‖m − n‖² to merge; the cheapest pair goes first, of
    equal costs the earliest. Clips are compared as unit vectors, in float64 so that sums taken in another order do not
    decide.

    Args:
        clips: (B, M, D) with M of at least k.
    """
    B, M, _ = clips.shape
    unit = F.normalize(clips.detach(), dim=-1).double()
    sums = torch.cat([unit.new_zeros(B, 1, unit.shape[2]), unit.cumsum(dim=1)], dim=1)  # (B, M+1, D)
    place = torch.arange(M + 1, device=clips.device)
    video = torch.arange(B, device=clips.device)
    cut = torch.ones(B, M + 1, dtype=torch.bool, device=clips.device)
    for _ in range(M - k):
        before = torch.where(cut, place, -1).cummax(dim=1).values.roll(1, dims=1).clamp(min=0)  # cut before each place
        after = torch.where(cut, place, M).flip(1).cummin(dim=1).values.flip(1).roll(-1, dims=1)  # and after it
        left, right = (place - before).clamp(min=1), (after - place).clamp(min=1)
        at = video[:, None]
        gap = (sums - sums[at, before]) / left[..., None] - (sums[at, after] - sums) / right[..., None]
        cost = left * right / (left + right) * gap.square().sum(dim=-1)
        inner = cut & (place > 0) & (place < M)
        cheapest = (cost * 1e9).round().masked_fill(~inner, torch.inf).argmin(dim=1)
        cut[video, cheapest] = False
    edges = cut.nonzero()[:, 1].reshape(B, k + 1)
    return torch.stack([edges[:, :-1], edges[:, 1:]], dim=-1)


class MergedGenerator(nn.Module):
    """K prototypes as means of adjacent segments; nothing to learn of its own.

    Args:
        prototypes: K, at most the clips.
    """

    def __init__(self, prototypes: int) -> None:
        super().__init__()
        self.prototypes = prototypes

    def forward(self, video: VideoTokens) -> PrototypeSet:
        """Prototypes of B videos with their spans."""
        segments = adjacent_segments(video.clips, k=self.prototypes)
        return PrototypeSet(vectors=span_means(video.clips, segments), spans=segments.float())
