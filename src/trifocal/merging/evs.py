"""Keep what differs from the previous frame, in the manner of efficient video sampling (arXiv 2510.14624).

The first frame is kept whole. Of all other tokens, those least similar to the same cell one frame before are kept,
over the whole video, ties in order of position. Nothing is averaged: a dropped cell is assigned the token last kept
at its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from trifocal.errors import InvalidInput
from trifocal.merging.config import MergeConfig, check_budget, check_video, token_budget
from trifocal.merging.kernels import same_cell_cosines
from trifocal.merging.plan import lay_out_cells
from trifocal.merging.result import MergedTokens, finish

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["EvsConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvsConfig(MergeConfig):
    """How much to keep.

    Attributes:
        budget: a share or a number of tokens, at least the first frame's; met exactly.
    """

    method: ClassVar[str] = "evs"

    budget: float = 0.5

    def __post_init__(self) -> None:
        """Refuse values that cannot be used."""
        check_budget(self.budget)

    def merge(self, x: Tensor) -> MergedTokens:
        """Prune one video `x (T, H, W, C)`."""
        check_video(x)
        frames, height, width, _ = x.shape
        cells = height * width
        tokens = token_budget(self.budget, frames * cells)
        if tokens < cells:
            raise InvalidInput(
                f"the budget is {tokens} tokens, and the {cells} of the first frame are always kept "
                f"(a share of {1 / frames:.3g})",
                remedy="Give at least one frame's tokens.",
            )
        kept = np.zeros(frames * cells, bool)
        kept[:cells] = True
        if frames > 1:
            time = torch.arange(1, frames, device=x.device)
            similar = same_cell_cosines(x, time, time - 1).cpu().numpy().ravel()
            kept[cells + np.argsort(similar, kind="stable")[: tokens - cells]] = True
        flat = np.flatnonzero(kept)
        last = np.where(kept.reshape(frames, cells), np.arange(frames)[:, None], 0)
        source = np.maximum.accumulate(last, axis=0) * cells + np.arange(cells)
        assignment = (np.cumsum(kept) - 1)[source].ravel()
        layout = lay_out_cells(height=height, width=width, flat=flat, assignment=assignment)
        return finish(x, layout, method=self.method)
