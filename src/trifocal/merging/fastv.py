"""Query-aware pruning by attention, as FastV does after its second layer (Chen et al., ECCV 2024, arXiv 2403.06764).

The tokens that the last prompt token attends to most are kept: ranked by its attention in the layer before the first
that sees fewer tokens, averaged over heads. The attention comes from the model that runs, so this is a function of it,
and `trifocal.accelerate` is where it can be asked for by name; and what is kept depends on the question, so a video
prefilled once cannot be reused for another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from trifocal.errors import InvalidInput
from trifocal.merging.config import MergeConfig, check_budget, check_video, token_budget
from trifocal.merging.frames import keep_cells

if TYPE_CHECKING:
    from torch import Tensor

    from trifocal.merging.result import MergedTokens

__all__ = ["FastvConfig", "fastv"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FastvConfig(MergeConfig):
    """How much to keep of each video.

    Attributes:
        budget: a share or a number of tokens; met exactly.
    """

    method: ClassVar[str] = "fastv"
    query_aware: ClassVar[bool] = True

    budget: float = 0.5

    def __post_init__(self) -> None:
        """Refuse values that cannot be used."""
        check_budget(self.budget)

    def merge(self, x: Tensor) -> MergedTokens:
        """Refuse: a video alone tells nothing.

        Raises:
            InvalidInput: always.
        """
        raise InvalidInput(
            f"fastv keeps what a prompt attends to, and a video of {tuple(x.shape)} comes with no prompt",
            remedy="Use trifocal.accelerate(model, method='fastv', ...), or trifocal.merging.fastv with the attention.",
        )

    def prune(self, x: Tensor, *, attention: Tensor) -> MergedTokens:
        """Prune one video by attention; see `fastv`."""
        return fastv(x, attention=attention, budget=self.budget)


def fastv(x: Tensor, *, attention: Tensor, budget: float) -> MergedTokens:
    """Keep the most attended tokens, in order; ties go to the earlier one.

    Args:
        x: `(T, H, W, C)` floating.
        attention: `(T*H*W,)`, or `(heads, T*H*W)` to be averaged over heads: how much the last prompt token attends to
            each video token.
        budget: a share or a number of tokens; met exactly.

    Raises:
        InvalidInput: the attention is not of this video's tokens.
    """
    check_video(x)
    cells = x[..., 0].numel()
    if attention.shape[-1] != cells or attention.dim() not in {1, 2}:
        raise InvalidInput(
            f"attention has shape {tuple(attention.shape)} and the video {cells} tokens",
            remedy="Give (T*H*W,) or (heads, T*H*W).",
        )
    score = attention.detach().double().reshape(-1, cells).mean(dim=0).cpu().numpy()
    kept = np.argsort(-score, kind="stable")[: token_budget(budget, cells)]
    return keep_cells(x, np.sort(kept), method="fastv")
