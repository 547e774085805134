"""Pyramid pooling: every frame resized to a smaller grid, whatever it shows (the single-granularity rows of STTM's
Tab. 5).

The paper speaks of bilinear resizing, the published code takes the nearest cell (`compat="reference"`). By default a
token is the mean of the cells nearest to it, so that every cell counts once and the weights in the result are the
true ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch.nn.functional as F

from trifocal.errors import InvalidInput
from trifocal.merging.config import Compat, MergeConfig, check_budget, check_choice, check_video, token_budget
from trifocal.merging.kernels import accumulation_dtype
from trifocal.merging.plan import lay_out_cells
from trifocal.merging.result import MergedTokens, finish

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    Ints = npt.NDArray[np.int64]

__all__ = ["PyramidConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PyramidConfig(MergeConfig):
    """How to resize. Give a size or a budget.

    Attributes:
        size: height and width of the new grid; one number for both. The paper tries 13, 11 and 9 for 14×14.
        budget: a share or a number of tokens; the largest grid of about the same aspect that stays within it.
        mode: "mean", "bilinear" (the weights in the result are then those of "mean"), or "nearest".
        compat: "reference" is `mode="nearest"`, whatever `mode` says.
    """

    method: ClassVar[str] = "pyramid"

    size: int | tuple[int, int] | None = None
    budget: float | None = None
    mode: Literal["mean", "bilinear", "nearest"] = "mean"
    compat: Compat = "default"

    def __post_init__(self) -> None:
        """Refuse values that cannot be used."""
        if self.size is not None and not isinstance(self.size, int):
            object.__setattr__(self, "size", tuple(self.size))  # JSON knows no tuples
        if (self.size is None) == (self.budget is None):
            raise InvalidInput("give either size or budget", remedy="Exactly one of the two decides.")
        if self.budget is not None:
            check_budget(self.budget)
        elif min(self._sides()) < 1:
            raise InvalidInput(f"size is {self.size}", remedy="Give a height and a width of at least 1.")
        check_choice("mode", self.mode, ("mean", "bilinear", "nearest"))
        check_choice("compat", self.compat, ("default", "reference"))

    def _sides(self) -> tuple[int, int]:
        if isinstance(self.size, int):
            return self.size, self.size
        return self.size or (1, 1)

    def merge(self, x: Tensor) -> MergedTokens:
        """Resize one video `x (T, H, W, C)`."""
        check_video(x)
        frames, height, width, _ = x.shape
        rows, columns = self._sides() if self.budget is None else self._fit(x)
        if rows > height or columns > width:
            raise InvalidInput(
                f"the size is {rows}×{columns} and the grid {height}×{width}", remedy="Give a size within the grid."
            )
        mode = "nearest" if self.compat == "reference" else self.mode
        y, row = _along(height, rows, nearest=mode == "nearest")
        z, column = _along(width, columns, nearest=mode == "nearest")
        within = (row[:, None] * columns + column).ravel()
        assignment = (np.arange(frames)[:, None] * rows * columns + within).ravel()
        boxes = None
        if mode != "nearest":
            ends = (np.append(y[1:], height), np.append(z[1:], width))
            sides = np.broadcast_arrays(y[:, None], z, ends[0][:, None], ends[1])
            each = np.stack([side.ravel() for side in sides], axis=1)
            time = np.repeat(np.arange(frames), len(each))[:, None]
            boxes = np.concatenate([time, np.tile(each, (frames, 1))], axis=1)
        flat = (np.arange(frames)[:, None] * height * width + (y[:, None] * width + z).ravel()).ravel()
        weights = None if mode == "nearest" else 1.0 / np.bincount(assignment)[assignment]
        layout = lay_out_cells(
            height=height, width=width, flat=flat, assignment=assignment, weights=weights, boxes=boxes
        )
        merged = finish(x, layout, method=self.method)
        if mode != "bilinear":
            return merged
        resized = F.interpolate(
            x.movedim(-1, 1).to(accumulation_dtype(x.dtype)), size=(rows, columns), mode="bilinear", align_corners=False
        )
        return replace(merged, features=resized.movedim(1, -1).reshape(len(merged), -1).to(x.dtype))

    def _fit(self, x: Tensor) -> tuple[int, int]:
        """The largest grid of about the same aspect within the budget."""
        frames, height, width, _ = x.shape
        each = token_budget(self.budget or 1.0, frames * height * width) // frames
        for rows in range(height, 0, -1):
            columns = max(1, round(width * rows / height))
            if rows * columns <= each:
                return rows, columns
        raise InvalidInput(
            f"the budget is {self.budget}, which is less than one token for each of {frames} frames",
            remedy=f"Give at least {frames} tokens.",
        )


def _along(cells: int, positions: int, *, nearest: bool) -> tuple[Ints, Ints]:
    """Along one side: the first cell of every new position, and the new position of every cell.

    With `nearest`, a position's first cell is the one that nearest resizing takes; otherwise a cell belongs to the
    position whose middle is nearest to its own.
    """
    if nearest:
        first = np.arange(positions) * cells // positions
        return first, np.searchsorted(first, np.arange(cells), side="right") - 1
    position = (np.arange(cells) * 2 + 1) * positions // (2 * cells)
    return np.searchsorted(position, np.arange(positions)), position
