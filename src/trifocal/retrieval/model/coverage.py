"""Prototypes that cover: the K windows of a video which together stand for all its windows best.

A query is about a stretch of time, and the best single vector for a stretch is the mean of its clips, which is a clip
token. So a prototype need not be invented, only chosen: for a video with unit tokens v and weights w, choose K of them
to make

    f(S) = Σ_v w_v · max_{s ∈ S} cos(v, s)

as large as possible (facility location). f is monotone and submodular, so greedy choice is within 1 − 1/e of the best
set (Nemhauser, Wolsey and Fisher 1978). Every prototype covers its own kind of content by construction: a second one
for what is covered already gains nothing, so a collapse would need a collapsed encoder. Long windows are alike and
need few prototypes, hence w = 1/length.

In training every window stands for itself, which is exhaustive scoring; the encoder learns, the choice follows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from trifocal.retrieval.model.tokens import PrototypeSet

if TYPE_CHECKING:
    from torch import Tensor

    from trifocal.retrieval.model.tokens import VideoTokens

__all__ = ["CoverageGenerator", "choose_covering"]

# Videos whose token × token cosines are held at once.
_AT_ONCE = 16


def choose_covering(tokens: Tensor, *, k: int, weights: Tensor) -> Tensor:
    """Indices of the tokens that cover all of them best, chosen greedily: int64 (B, k), in the order of choice.

    Of equal gains (compared after rounding to seven decimals) the token with the smallest index wins.

    Args:
        tokens: (B, V, D) of any length but zero.
        k: how many, at most V.
        weights: (V,), how much each token's being covered counts, at least 0.
    """
    unit = F.normalize(tokens.detach().float(), dim=-1)
    share = weights.to(unit) / weights.sum()
    chosen = [_choose(part, k=k, share=share) for part in torch.split(unit, _AT_ONCE)]
    return torch.cat(chosen)


def _choose(unit: Tensor, *, k: int, share: Tensor) -> Tensor:
    alike = unit @ unit.transpose(1, 2)  # (B, V, V)
    covered = alike.new_full(alike.shape[:2], -1.0)
    video = torch.arange(len(unit), device=unit.device)
    chosen: list[Tensor] = []
    for _ in range(k):
        gain = (alike - covered[:, None]).relu_() @ share  # (B, V)
        if chosen:  # a token whose twin is chosen gains 0 like the twin itself: never the same index twice
            gain.scatter_(1, torch.stack(chosen, dim=1), -1.0)
        best = (gain * 1e7).round().argmax(dim=1)
        chosen.append(best)
        covered = torch.maximum(covered, alike[video, best])
    return torch.stack(chosen, dim=1)


class CoverageGenerator(nn.Module):
    """K covering windows as prototypes, in order of time; all windows while training.

    Args:
        prototypes: K, at most the tokens.
    """

    def __init__(self, prototypes: int) -> None:
        super().__init__()
        self.prototypes = prototypes

    def forward(self, video: VideoTokens) -> PrototypeSet:
        """Prototypes of B videos with their spans."""
        tokens, spans = video.project(), video.spans
        if self.training:
            return PrototypeSet(vectors=tokens, spans=spans.float().expand(len(tokens), -1, -1))
        length = spans[:, 1] - spans[:, 0]
        chosen = choose_covering(tokens, k=self.prototypes, weights=1.0 / length)
        place = spans[chosen]  # (B, K, 2)
        order = (place[..., 0] * (place.amax() + 1) + place[..., 1]).argsort(dim=1, stable=True)
        chosen = chosen.gather(1, order)
        at = torch.arange(len(chosen), device=chosen.device)[:, None]
        return PrototypeSet(vectors=tokens[at, chosen], spans=spans[chosen].float())
