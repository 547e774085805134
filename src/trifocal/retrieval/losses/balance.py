"""Balance of winners: no prototype should win for all queries of a batch. Not in the paper (open question Q12).

With u_nj = softmax_j(s(q_n, p̂_j(v⁺)) / τ), how much prototype j wins query n, and ū its mean over the batch:

    L = log K − H(ū) = Σ_j ū_j log(K ū_j)

0 when every shared prototype wins equally often over the batch; each single query may still choose sharply.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["winner_balance"]


def winner_balance(cosines: Tensor, *, temperature: float) -> Tensor:
    """A scalar from 0 to log K.

    Args:
        cosines: (N, K), each query with the prototypes of its own video.
        temperature: τ.
    """
    mean = (cosines / temperature).softmax(dim=1).mean(dim=0)  # (K,)
    return (mean * mean.clamp(min=1e-12).log()).sum() + math.log(cosines.shape[1])
