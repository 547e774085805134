"""Orthogonal diversification: a video's prototypes should not point the same way.

    O = max(P̂ P̂ᵀ, 0) with unit rows,   L = ‖O − I‖ / (K(K − 1))

The normaliser is the number of entries off the diagonal, so ‖·‖ is read as the sum of magnitudes: the mean positive
cosine. Opposite prototypes are not punished. A low value is no proof of diversity (a collapsed model can have it): look
at the figures of `collapse`. (method page, §8)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["orthogonality"]


def orthogonality(prototypes: Tensor, *, norm: Literal["mean", "frobenius"] = "mean") -> Tensor:
    """The mean over videos, a scalar; 0 for a single prototype.

    Args:
        prototypes: (B, K, D) of any length.
        norm: `mean` sums magnitudes, `frobenius` takes the root of the sum of squares.
    """
    K = prototypes.shape[1]
    if K < 2:
        return prototypes.sum() * 0.0
    unit = F.normalize(prototypes, dim=-1)
    off = ~torch.eye(K, dtype=torch.bool, device=unit.device)
    positive = (unit @ unit.transpose(1, 2)).relu()[:, off]  # (B, K(K-1))
    total = positive.sum(dim=1) if norm == "mean" else positive.norm(dim=1)
    return total.mean() / (K * (K - 1))
