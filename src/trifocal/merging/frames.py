"""The plainest rivals: whole frames at equal distances, and tokens drawn at random. Both need no similarity at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from trifocal.errors import InvalidInput
from trifocal.merging.config import MergeConfig, check_budget, check_video, token_budget
from trifocal.merging.plan import lay_out_cells
from trifocal.merging.result import MergedTokens, finish

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

__all__ = ["RandomConfig", "UniformConfig", "keep_cells"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UniformConfig(MergeConfig):
    """Keep as many whole frames as the budget allows, each the middle of an equal part of the video.

    Attributes:
        budget: a share or a number of tokens, at least one frame's.
    """

    method: ClassVar[str] = "uniform"

    budget: float = 0.5

    def __post_init__(self) -> None:
        """Refuse values that cannot be used."""
        check_budget(self.budget)

    def merge(self, x: Tensor) -> MergedTokens:
        """Sample one video `x (T, H, W, C)`."""
        check_video(x)
        frames, cells = x.shape[0], x.shape[1] * x.shape[2]
        count = token_budget(self.budget, frames * cells) // cells
        if not count:
            raise InvalidInput(
                f"the budget is {self.budget}, less than the {cells} tokens of one frame (a share of {1 / frames:.3g})",
                remedy="Give at least one frame's tokens.",
            )
        index = (np.arange(count) * 2 + 1) * frames // (2 * count)
        return keep_cells(x, (index[:, None] * cells + np.arange(cells)).ravel(), method=self.method)


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomConfig(MergeConfig):
    """Keep tokens drawn without replacement, in order.

    Attributes:
        budget: a share or a number of tokens; met exactly.
        seed: the same seed draws the same cells on every device.
    """

    method: ClassVar[str] = "random"

    budget: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values that cannot be used."""
        check_budget(self.budget)

    def merge(self, x: Tensor) -> MergedTokens:
        """Draw from one video `x (T, H, W, C)`."""
        check_video(x)
        cells = x[..., 0].numel()
        drawn = np.random.default_rng(self.seed).permutation(cells)[: token_budget(self.budget, cells)]
        return keep_cells(x, np.sort(drawn), method=self.method)


def keep_cells(x: Tensor, flat: npt.NDArray[np.int64], *, method: str) -> MergedTokens:
    """Tokens that are single cells; nothing stands for the others."""
    assignment = np.full(x[..., 0].numel(), -1, np.int64)
    assignment[flat] = np.arange(len(flat))
    layout = lay_out_cells(height=x.shape[1], width=x.shape[2], flat=flat, assignment=assignment)
    return finish(x, layout, method=method)
