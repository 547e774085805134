"""InfoNCE between queries and videos, both ways; every caption of a video is a positive of it.

    t2v = mean over queries  −log  exp s(q, v⁺) / Σ_v exp s(q, v)
    v2t = mean over videos   −log  Σ_{q⁺} exp s(q⁺, v) / Σ_q exp s(q, v)

`scores` are logits: cosines over a temperature, or the peers' unnormalised products. (specs of the method page, §5.1)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["info_nce", "positives"]


def positives(owner: Tensor, *, videos: int) -> Tensor:
    """bool (N, B), True where the query belongs to the video."""
    return owner[:, None] == torch.arange(videos, device=owner.device)


def info_nce(scores: Tensor, owner: Tensor) -> Tensor:
    """The sum of both directions, a scalar.

    Args:
        scores: float (N, B), logits of queries against videos.
        owner: int64 (N,), the query's video; every video has at least one query.
    """
    t2v = F.cross_entropy(scores, owner)
    own = positives(owner, videos=scores.shape[1])
    v2t = scores.logsumexp(dim=0) - scores.masked_fill(~own, -torch.inf).logsumexp(dim=0)  # (B,)
    return t2v + v2t.mean()
