"""Uni-modal reconstruction: the prototypes must hold enough to rebuild the video.

    L = 1/L_f Σ_i ‖v_i − ṽ_i‖²

v_i are the video's clips as unit vectors, ṽ_i what the decoder makes of the prototypes (`model/heads.py`).
(method page, §6.2)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["video_reconstruction"]


def video_reconstruction(rebuilt: Tensor, target: Tensor) -> Tensor:
    """Squared distance a clip, summed over channels, averaged over clips and videos: a scalar.

    Args:
        rebuilt: (B, M, d).
        target: (B, M, d), brought to unit length here; no gradient flows into it.
    """
    return (rebuilt - F.normalize(target.detach(), dim=-1)).square().sum(dim=-1).mean()
