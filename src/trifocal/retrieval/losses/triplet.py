"""Triplet loss with the field's negatives: random at first, then hard.

    t2v = mean over queries  [m + s(q, v⁻) − s(q, v⁺)]₊
    v2t = mean over videos   [m + s(q⁻, v) − mean_{q⁺} s(q⁺, v)]₊

Random: v⁻ and q⁻ are any wrong ones of the batch. Hard: v⁻ is drawn among the `top` wrong videos of the highest score,
q⁻ is the wrong query of the highest score. The draw uses torch's global generator. (method page, §5.1)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from trifocal.retrieval.losses.infonce import positives

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["triplet"]


def triplet(scores: Tensor, owner: Tensor, *, margin: float, hard: bool, top: int = 20) -> Tensor:
    """The sum of both directions, a scalar; 0 where the batch has one video only.

    Args:
        scores: float (N, B), cosines of queries against videos.
        owner: int64 (N,), the query's video; every video has at least one query.
        margin: m.
        hard: which negatives.
        top: how many hard videos a query's negative is drawn from.
    """
    N, B = scores.shape
    if B < 2:
        return scores.sum() * 0.0
    own = positives(owner, videos=B)
    right = scores.gather(1, owner[:, None])[:, 0]  # (N,)
    wrong = scores.detach().masked_fill(own, -torch.inf)
    if hard:
        depth = min(top, B - 1)
        pick = torch.randint(depth, (N, 1), device=scores.device)
        video = wrong.topk(depth, dim=1).indices.gather(1, pick)  # (N, 1)
        query = wrong.argmax(dim=0)  # (B,)
    else:
        chance = torch.rand(N, B, device=scores.device).masked_fill(own, -1.0)
        video, query = chance.argmax(dim=1, keepdim=True), chance.argmax(dim=0)
    t2v = (margin + scores.gather(1, video)[:, 0] - right).relu().mean()
    mean_right = (scores * own).sum(dim=0) / own.sum(dim=0)  # (B,)
    v2t = (margin + scores.gather(0, query[None])[0] - mean_right).relu().mean()
    return t2v + v2t
