"""Weak attention guidance by mixing videos: the prototype that a query retrieves should look at the query's own video.

Two videos are mixed, and the retrieved prototype's attention falls on the first one's tokens by α₁, on the second
one's by α₂ = 1 − α₁. With L = 1 for a query of the first video, else 0, and a margin β:

    L_attn = −[ L log min(α₁ + β, 1) + (1 − L) log min(1 − α₁ + β, 1) ]

The minimum keeps the loss at 0, without gradient, inside the margin: similar videos need not be told apart to the last
per cent. (method page, §7)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["attention_guidance", "partners"]


def partners(videos: int, *, device: torch.device) -> Tensor:
    """Every video's partner: a random derangement that is one cycle, int64 (B,); B of at least 2."""
    order = torch.randperm(videos, device=device)
    partner = torch.empty_like(order)
    partner[order] = order.roll(1)
    return partner


def attention_guidance(share: Tensor, *, margin: float) -> Tensor:
    """The mean loss of queries, a scalar.

    Args:
        share: (N,), attention of each query's retrieved prototype that falls on the query's own video, 0 to 1. (For a
            query of the second video this is 1 − α₁, which makes both terms of the equation one.)
        margin: β.
    """
    return -(share + margin).clamp(min=1e-6, max=1.0).log().mean()
