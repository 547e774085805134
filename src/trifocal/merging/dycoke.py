"""DyCoke, stage 1: drop what repeats inside groups of four frames (Tao et al., CVPR 2025, arXiv 2411.15024).

The first frame of each group is kept whole; the second is pruned against the first, the fourth against the third, and
the third against the first: the tokens most similar to the same cell of the other frame go. Nothing is averaged. The
published code leaves the last group unfinished, needs more than four frames, and puts the kept tokens of a frame in
the order of their similarity; by default every group is finished, however many frames there are, and tokens stay in
raster order. A dropped cell is assigned the token that it was similar to. At least a quarter of the frames is always
kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from trifocal.errors import InvalidInput
from trifocal.merging.config import Compat, MergeConfig, check_budget, check_choice, check_video, token_budget
from trifocal.merging.kernels import same_cell_cosines
from trifocal.merging.plan import lay_out_cells
from trifocal.merging.result import MergedTokens, finish

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    Ints = npt.NDArray[np.int64]

__all__ = ["DycokeConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DycokeConfig(MergeConfig):
    """What to drop. Give a ratio or a budget.

    Attributes:
        prune_ratio: share of a pruned frame's tokens that goes; the paper uses 0.7.
        budget: a share or a number of tokens; at most that many are kept, fewer by less than one per frame.
        compat: "default", or "reference" for the published groups and order.
    """

    method: ClassVar[str] = "dycoke"

    prune_ratio: float | None = None
    budget: float | None = None
    compat: Compat = "default"

    def __post_init__(self) -> None:
        """Refuse values that cannot be used."""
        if (self.prune_ratio is None) == (self.budget is None):
            raise InvalidInput("give either prune_ratio or budget", remedy="Exactly one of the two decides.")
        if self.prune_ratio is not None and not 0.0 <= self.prune_ratio <= 1.0:
            raise InvalidInput(f"prune_ratio is {self.prune_ratio!r}", remedy="Give a share between 0 and 1.")
        if self.budget is not None:
            check_budget(self.budget)
        check_choice("compat", self.compat, ("default", "reference"))

    def merge(self, x: Tensor) -> MergedTokens:
        """Prune one video `x (T, H, W, C)`."""
        check_video(x)
        frames, height, width, _ = x.shape
        cells = height * width
        against = _partners(frames, reference=self.compat == "reference")
        pruned = np.flatnonzero(against >= 0)
        kept_each = self._kept_each(frames, cells, len(pruned))

        token = np.full((frames, cells), -1, np.int64)
        flat: list[Ints] = []
        similar: dict[int, npt.NDArray[np.floating]] = {}
        if len(pruned):
            pair = (torch.from_numpy(which).to(x.device) for which in (pruned, against[pruned]))
            similar = dict(zip(pruned.tolist(), same_cell_cosines(x, *pair).cpu().numpy(), strict=True))
        for frame in range(frames):
            if frame in similar:
                keep = np.argsort(similar[frame], kind="stable")[:kept_each]
                token[frame] = token[against[frame]]
            else:
                keep = np.arange(cells)
            if self.compat == "default":
                keep = np.sort(keep)
            token[frame, keep] = sum(map(len, flat)) + np.arange(len(keep))
            flat.append(frame * cells + keep)
        layout = lay_out_cells(height=height, width=width, flat=np.concatenate(flat), assignment=token.ravel())
        return finish(x, layout, method=self.method)

    def _kept_each(self, frames: int, cells: int, pruned: int) -> int:
        """How many tokens of every pruned frame stay."""
        if self.prune_ratio is not None:
            return int((1 - self.prune_ratio) * cells)
        fewest = (frames - pruned) * cells
        allowed = token_budget(self.budget or 1.0, frames * cells)
        if allowed < fewest:
            raise InvalidInput(
                f"the budget is {allowed} tokens, and DyCoke keeps {fewest} in whole frames "
                f"(a share of {fewest / (frames * cells):.3g})",
                remedy="Give more, or use another method for smaller budgets.",
            )
        return (allowed - fewest) // pruned if pruned else 0


def _partners(frames: int, *, reference: bool) -> Ints:
    """The frame that each frame is pruned against, -1 for a frame that is kept whole."""
    time = np.arange(frames)
    partner = np.where(time % 2 == 1, time - 1, np.where(time % 4 == 2, time - 2, -1))
    if reference:
        # Only groups that start before the fourth frame from the end have their third frame pruned.
        partner[(time % 4 == 2) & (time - 2 >= frames - 4)] = -1
    return partner
